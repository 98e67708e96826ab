"""Everything that edgekit raises on purpose.

::

    EdgekitError                     exit code 1
    ├── UsageError                   exit code 2   wrong argument, wrong combination of flags
    │   ├── InvalidModelError                      no model, truncated, corrupt, NaN weights
    │   ├── InvalidDataError                       calibration or test data of the wrong shape, NaN
    │   ├── InvalidBoardError                      a board file with impossible values
    │   └── OutputError                            unwritable folder, full disk, not an artifact
    ├── UnsupportedError             exit code 3   the target, operator or format cannot do this
    │   └── DoesNotFitError                        more memory than the board has
    ├── DeviceMissingError           exit code 4   no such device, or it does not answer
    │   └── ToolchainMissingError                  no compiler or emulator for this target
    ├── DownloadError                exit code 1   a file that cannot be fetched, or is another
    ├── EmulationError               exit code 1   emulated code faulted, strayed or did not end
    └── VerificationError            exit code 1   two things that must be equal are not

A message says what is wrong, where, and what would be right. Programming mistakes inside edgekit
are ``AssertionError`` and are bugs.
"""


class EdgekitError(Exception):
    """Base of every error that a user can cause or meet.

    Attributes:
        exit_code: what the command line returns for this error.
    """

    exit_code = 1


class UsageError(EdgekitError):
    """An argument, or a combination of arguments, that makes no sense."""

    exit_code = 2


class InvalidModelError(UsageError):
    """A file or object that is no usable model."""


class InvalidDataError(UsageError):
    """Calibration or test data that does not fit the model."""


class InvalidBoardError(UsageError):
    """A board description with missing or impossible values."""


class OutputError(UsageError):
    """A result that cannot be written, or a folder that is not what it should be."""


class UnsupportedError(EdgekitError):
    """Something the chosen target, operator or format cannot do."""

    exit_code = 3


class DoesNotFitError(UnsupportedError):
    """The model needs more memory than the board has."""


class DeviceMissingError(EdgekitError):
    """A device that is absent or does not answer."""

    exit_code = 4


class ToolchainMissingError(DeviceMissingError):
    """A compiler or an emulator that is not installed."""


class DownloadError(EdgekitError):
    """A published file that cannot be fetched, or whose checksum is not the expected one."""


class VerificationError(EdgekitError):
    """Two results that must be equal differ."""


class EmulationError(EdgekitError):
    """Emulated code stopped: a fault, an access outside its memories, or no end in sight.

    Attributes:
        pc: address of the instruction, None where it is not known.
        address: what was accessed, None for other reasons.
    """

    def __init__(self, message: str, pc: int | None = None, address: int | None = None) -> None:
        super().__init__(message)
        self.pc = pc
        self.address = address
