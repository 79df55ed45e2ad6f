"""Skips what needs bitsandbytes where it is not installed. Importing this imports neither it nor torch."""

import pytest

from luthier.core.quantization import is_installed

needs_bitsandbytes = pytest.mark.skipif(not is_installed(), reason="bitsandbytes is not installed: pip install 'luthier[qlora]'")
