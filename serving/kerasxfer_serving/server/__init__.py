"""Online serving: the verified model file behind HTTP and gRPC, with the decoder it was trained on."""

from kerasxfer_serving.server._extra import require_packages

require_packages()

from kerasxfer_serving.server.app import create_app  # noqa: E402
from kerasxfer_serving.server.options import ServerOptions  # noqa: E402

__all__ = ["ServerOptions", "create_app"]
