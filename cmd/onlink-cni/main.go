// Command onlink-cni is the CNI plugin: it passes the container runtime's
// request to onlinkd and prints the answer. See package cni/shim for why it
// uses system calls only.
//
//go:debug updatemaxprocs=0
//go:debug decoratemappings=0
package main

import (
	"io"
	"syscall"

	"onlink/cni/shim"
)

// fd reads and writes a file descriptor without package os, whose start-up
// would be a tenth of this program's run time.
type fd int

// Read implements io.Reader.
func (f fd) Read(b []byte) (int, error) {
	for {
		n, err := syscall.Read(int(f), b)
		switch {
		case err == syscall.EINTR:
			continue
		case err != nil:
			return 0, err
		case n == 0:
			return 0, io.EOF
		}
		return n, nil
	}
}

// Write implements io.Writer.
func (f fd) Write(b []byte) (int, error) {
	written := 0
	for written < len(b) {
		n, err := syscall.Write(int(f), b[written:])
		switch {
		case err == syscall.EINTR:
			continue
		case err != nil:
			return written, err
		}
		written += n
	}
	return written, nil
}

func getenv(key string) string {
	value, _ := syscall.Getenv(key)
	return value
}

// memory is not on the heap, see its type.
var memory shim.Memory

func main() {
	syscall.Exit(shim.Run(shim.Process{Getenv: getenv, Stdin: fd(0), Stdout: fd(1), Stderr: fd(2), Memory: &memory}))
}
