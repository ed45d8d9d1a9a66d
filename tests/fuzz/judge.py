"""How a wrong outcome is told.

An input is either refused, or the answer is right. Refused means: an exception of the allowed kinds, with a
message that its reader can act upon. Right is what an oracle says that shares no code with the package.
"""

import re
from dataclasses import dataclass

from onmanifold import InputError
from onmanifold.storage import DamagedFile

ALLOWED = (InputError, FileNotFoundError, IsADirectoryError, NotADirectoryError, PermissionError)

# Messages of libraries below, about arguments that the user never passed to them.
FOREIGN = re.compile(
    "|".join(
        [
            r"object has no attribute",
            r"not supported between instances",
            r"unsupported operand type",
            r"ufunc '",
            r"expected sequence of length",
            r"invalid literal for int",
            r"could not convert string to float",
            r"must be real number, not",
            r"object is not (iterable|subscriptable|callable)",
            r"takes \d+ positional argument",
            r"unexpected keyword argument",
            r"unhashable type",
            r"allow_pickle",
            r"mat1 and mat2",
            r"Expected all tensors",
            r"size of tensor a",
            r"INTERNAL ASSERT",
            r"Traceback",
            r"local variable",
        ]
    )
)


@dataclass
class Refused:
    """An input was refused with this message."""

    message: str


def outcome(call):
    """What ``call`` returns, or :class:`Refused`; any other exception is a fault and goes on."""
    try:
        return call()
    except ALLOWED as error:
        message = str(error)
        assert message.strip(), f"{type(error).__name__} without a message"
        # what is damaged cannot be explained by more than its reader's words: the file has to be replaced
        foreign = not isinstance(error, DamagedFile) and FOREIGN.search(message)
        assert not foreign, f"a message of a library below: {message}"
        return Refused(message)


def exact(value):
    """Numbers as float64 by numpy alone, or ``None`` for what is no dense real array of them."""
    import numpy as np
    import torch

    if isinstance(value, torch.Tensor):
        if value.layout != torch.strided or value.is_complex() or value.dtype == torch.bool:
            return None
        value = value.detach().double().numpy()
    try:
        array = np.asarray(value)
    except ValueError:
        return None
    return array.astype(np.float64) if array.dtype.kind in "fiu" else None
