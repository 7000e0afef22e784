package main

import (
	"syscall"
	"unsafe"
)

func ioctl(fd int, request uintptr, size *[4]uint16) syscall.Errno {
	_, _, errno := syscall.Syscall(syscall.SYS_IOCTL, uintptr(fd), request, uintptr(unsafe.Pointer(size)))
	return errno
}
