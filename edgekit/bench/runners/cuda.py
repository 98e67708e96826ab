"""Memory and streams of a CUDA device, through the driver's own library.

The driver is on every machine with a GPU and its interface is stable, so a stock JetPack needs no
further package. TensorRT uses the device's primary context, and so does this.
"""

from __future__ import annotations

import ctypes
from typing import Any

from edgekit.bench.runners.base import RunnerError, RuntimeMissingError

LIBRARY = "libcuda.so.1"

_SIGNATURES: dict[str, tuple[Any, ...]] = {
    "cuInit": (ctypes.c_uint,),
    "cuDeviceGet": (ctypes.POINTER(ctypes.c_int), ctypes.c_int),
    "cuDeviceGetName": (ctypes.c_char_p, ctypes.c_int, ctypes.c_int),
    "cuDevicePrimaryCtxRetain": (ctypes.POINTER(ctypes.c_void_p), ctypes.c_int),
    "cuDevicePrimaryCtxRelease_v2": (ctypes.c_int,),
    "cuCtxSetCurrent": (ctypes.c_void_p,),
    "cuStreamCreate": (ctypes.POINTER(ctypes.c_void_p), ctypes.c_uint),
    "cuStreamSynchronize": (ctypes.c_void_p,),
    "cuStreamDestroy_v2": (ctypes.c_void_p,),
    "cuMemAlloc_v2": (ctypes.POINTER(ctypes.c_uint64), ctypes.c_size_t),
    "cuMemFree_v2": (ctypes.c_uint64,),
    "cuMemHostAlloc": (ctypes.POINTER(ctypes.c_void_p), ctypes.c_size_t, ctypes.c_uint),
    "cuMemFreeHost": (ctypes.c_void_p,),
    "cuMemcpyHtoDAsync_v2": (ctypes.c_uint64, ctypes.c_void_p, ctypes.c_size_t, ctypes.c_void_p),
    "cuMemcpyDtoHAsync_v2": (ctypes.c_void_p, ctypes.c_uint64, ctypes.c_size_t, ctypes.c_void_p),
}
"""Arguments of the functions that are used. Source: ``cuda.h``, CUDA driver API."""


class Buffer:
    """The same number of bytes on the device and, page-locked, on the host.

    Attributes:
        bytes: size.
        device: address on the device.
        host: address on the host.
    """

    def __init__(self, size: int, device: int, host: int) -> None:
        self.bytes = size
        self.device = device
        self.host = host


class Cuda:
    """The first CUDA device, with one stream.

    Raises:
        RuntimeMissingError: no driver, or no device.
    """

    def __init__(self) -> None:
        try:
            self._driver = ctypes.CDLL(LIBRARY)
        except OSError as error:
            raise RuntimeMissingError(f"no CUDA driver on this machine: {error}") from error
        for name, arguments in _SIGNATURES.items():
            function = getattr(self._driver, name)
            function.argtypes, function.restype = arguments, ctypes.c_int
        self._buffers: list[Buffer] = []
        self._device, context = ctypes.c_int(), ctypes.c_void_p()
        try:
            self._call("cuInit", 0)
            self._call("cuDeviceGet", ctypes.byref(self._device), 0)
            self._call("cuDevicePrimaryCtxRetain", ctypes.byref(context), self._device)
            try:
                self.stream = self._new_stream(context)
            except RunnerError:
                self._driver.cuDevicePrimaryCtxRelease_v2(self._device)
                raise
        except RunnerError as error:
            raise RuntimeMissingError(f"no CUDA device on this machine: {error}") from error

    def _new_stream(self, context: ctypes.c_void_p) -> int:
        stream = ctypes.c_void_p()
        self._call("cuCtxSetCurrent", context)
        self._call("cuStreamCreate", ctypes.byref(stream), 0)
        return stream.value or 0

    @property
    def name(self) -> str:
        """Of the device."""
        text = ctypes.create_string_buffer(256)
        self._call("cuDeviceGetName", text, len(text), self._device)
        return text.value.decode(errors="replace")

    def allocate(self, size: int) -> Buffer:
        """Memory on the device and on the host.

        Raises:
            RunnerError: there is not enough.
        """
        device, host = ctypes.c_uint64(), ctypes.c_void_p()
        self._call("cuMemAlloc_v2", ctypes.byref(device), size)
        self._buffers.append(Buffer(size, device.value, 0))
        self._call("cuMemHostAlloc", ctypes.byref(host), size, 0)
        self._buffers[-1].host = host.value or 0
        return self._buffers[-1]

    def upload(self, buffer: Buffer) -> None:
        """Begin to copy to the device."""
        host = ctypes.c_void_p(buffer.host)
        self._call("cuMemcpyHtoDAsync_v2", buffer.device, host, buffer.bytes, self.stream)

    def download(self, buffer: Buffer) -> None:
        """Begin to copy from the device."""
        host = ctypes.c_void_p(buffer.host)
        self._call("cuMemcpyDtoHAsync_v2", host, buffer.device, buffer.bytes, self.stream)

    def wait(self) -> None:
        """Until everything that was begun is done.

        Raises:
            RunnerError: something of it failed.
        """
        self._call("cuStreamSynchronize", self.stream)

    def close(self) -> None:
        """Release everything; further calls do nothing."""
        if not self.stream:
            return
        for buffer in self._buffers:
            self._driver.cuMemFree_v2(buffer.device)
            self._driver.cuMemFreeHost(buffer.host)
        self._driver.cuStreamDestroy_v2(self.stream)
        self._driver.cuDevicePrimaryCtxRelease_v2(self._device)
        self._buffers, self.stream = [], 0

    def _call(self, name: str, *arguments: Any) -> None:
        code = getattr(self._driver, name)(*arguments)
        if code != 0:
            raise RunnerError(f"CUDA: {name} answered {code}")
