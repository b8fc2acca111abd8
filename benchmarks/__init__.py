"""Figures, measured here and written down in README.md beside this file:  make bench"""
