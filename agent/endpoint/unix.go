package endpoint

import (
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"os/user"
	"path/filepath"
	"strconv"
	"time"
)

// ListenUnix opens a unix socket with the given mode and group. A socket file
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
	g, err := user.LookupGroup(group)
	if err != nil {
		return err
	}
	gid, err := strconv.Atoi(g.Gid)
	if err != nil {
		return fmt.Errorf("group %s: id %q is not a number", group, g.Gid)
	}
	return os.Chown(path, 0, gid)
}
