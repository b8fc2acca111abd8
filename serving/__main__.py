"""`python -m keras_seqattn.serving --model_base_path=...`"""

import sys

from keras_seqattn.serving.flags import parse_flags
from keras_seqattn.serving.server import serve

if __name__ == "__main__":
    sys.exit(serve(parse_flags(sys.argv[1:], prog="python -m keras_seqattn.serving")))
