"""The command `seqattn`. It stands outside the library so that it can import it quietly: TensorFlow writes notes on the
machine to standard error as soon as it is imported, before it can be told not to.
"""

import contextlib
import os
import sys
import tempfile


def main():
    """Runs the command line; the library does the rest."""
    with quiet_imports():
        from keras_seqattn.cli import main as run
    return run()


@contextlib.contextmanager
def quiet_imports():
    """Keeps what is written to standard error, and shows it only if the block fails."""
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    sys.stderr.flush()
    kept = os.dup(2)
    with tempfile.TemporaryFile() as notes:
        os.dup2(notes.fileno(), 2)
        try:
            yield
            with contextlib.suppress(ImportError):
                import tensorflow as tf

                tf.config.list_physical_devices()  # the first look for devices has notes of its own
        except BaseException:
            notes.seek(0)
            os.write(kept, notes.read())
            raise
        finally:
            os.dup2(kept, 2)
            os.close(kept)


if __name__ == "__main__":
    sys.exit(main())
