// Command empty is a CNI plugin that does nothing. It answers ADD with an address out
// of 10.201.0.0/16 that no device has, so that a cluster shows what pods cost with a
// network namespace and nothing in it: no plugin can cost less.
package main

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"os"
	"syscall"
)

func main() {
	if err := run(os.Getenv("CNI_COMMAND")); err != nil {
		fmt.Printf(`{"cniVersion":"1.0.0","code":999,"msg":%q}`, err)
		os.Exit(1)
	}
}

func run(command string) error {
	switch command {
	case "VERSION":
		fmt.Print(`{"cniVersion":"1.0.0","supportedVersions":["1.0.0"]}`)
	case "ADD":
		a, err := next("/run/empty")
		if err != nil {
			return err
		}
		fmt.Printf(`{"cniVersion":"1.0.0","interfaces":[{"name":%q,"sandbox":%q}],"ips":[{"interface":0,"address":"%s/32"}]}`, os.Getenv("CNI_IFNAME"), os.Getenv("CNI_NETNS"), a)
	}
	return nil
}

// next counts in a file, which it locks: plugins run side by side.
func next(file string) (netip.Addr, error) {
	f, err := os.OpenFile(file, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return netip.Addr{}, err
	}
	defer f.Close()
	var count [2]byte
	if err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX); err != nil {
		return netip.Addr{}, err
	}
	if _, err := f.ReadAt(count[:], 0); err != nil && !errors.Is(err, io.EOF) {
		return netip.Addr{}, err
	}
	binary.BigEndian.PutUint16(count[:], binary.BigEndian.Uint16(count[:])+1)
	_, err = f.WriteAt(count[:], 0)
	return netip.AddrFrom4([4]byte{10, 201, count[0], count[1]}), err
}
