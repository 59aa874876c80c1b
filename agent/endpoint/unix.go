package endpoint

import (
	"errors"
	"fmt"
	"io/fs"
	"math"
	"net"
	"os"
	"os/user"
	"path/filepath"
	"strconv"
	"time"
)

// ListenUnix opens a unix socket with the given mode and group, a name or a number. A socket file
// without a listener is a leftover of a killed run and is replaced; one with a
// listener belongs to a running agent. Field is the key of the configuration, for errors.
func ListenUnix(field, path string, mode fs.FileMode, group string) (net.Listener, error) {
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil { //nolint:gosec // the sockets guard themselves
		return nil, fmt.Errorf("%s: %w", field, err)
	}
	if c, err := net.DialTimeout("unix", path, time.Second); err == nil {
		c.Close() // only a probe
		return nil, fmt.Errorf("%s: %s is served by another process; stop it or choose another path", field, path)
	}
	if info, err := os.Lstat(path); err == nil && !info.IsDir() && info.Mode().Type() != fs.ModeSocket {
		return nil, fmt.Errorf("%s: %s is there already, and is no socket; name another path", field, path)
	}
	if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("%s: remove stale socket: %w", field, err)
	}
	lis, err := net.Listen("unix", path)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", field, err)
	}
	if err := own(path, mode, group); err != nil {
		lis.Close() // the error that matters is err
		return nil, fmt.Errorf("%s: %w", field, err)
	}
	return lis, nil
}

func own(path string, mode fs.FileMode, group string) error {
	if err := os.Chmod(path, mode); err != nil {
		return err
	}
	if group == "" {
		return nil
	}
	gid, err := GroupID(group)
	if err != nil {
		return err
	}
	return os.Chown(path, 0, int(gid))
}

// Group returns the ID of the group that a key of the configuration names, nil where it
// names none. Its error names the key.
func Group(field, name string) (*uint32, error) {
	if name == "" {
		return nil, nil //nolint:nilnil // no group
	}
	id, err := GroupID(name)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", field, err)
	}
	return &id, nil
}

// GroupID returns the ID of a group's name, or the number itself: an image of a
// container has no names.
func GroupID(group string) (uint32, error) {
	g, err := user.LookupGroup(group)
	if err == nil {
		group = g.Gid
	}
	gid, numErr := strconv.ParseUint(group, 10, 32)
	switch {
	case numErr == nil && gid < math.MaxUint32: // the last means no change to chown(2)
		return uint32(gid), nil
	case err != nil:
		return 0, err
	}
	return 0, fmt.Errorf("group %s: %w", group, numErr)
}
