"""WHERE SCORES COME FROM that this process does not compute: model servers that speak EasyRec's protocol."""

from pairec_fast.remote.answers import FUNCTIONS, AnswerError, Features, Scored
from pairec_fast.remote.http import HttpError
from pairec_fast.remote.server import RemoteError, Server

__all__ = ["FUNCTIONS", "AnswerError", "Features", "HttpError", "RemoteError", "Scored", "Server"]
