// Package atomicfile replaces files so that a reader, and a machine that lost
// its power, finds the old content or the new one and never a part.
package atomicfile

import (
	"bytes"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
)

// Replace makes path hold data with a mode, durably: a new file, complete and
// on the disk, takes the place of the old one. It writes nothing when path is
// so already.
//
// The new file is made in the same folder, because a rename crosses no file
// system. Its name begins with a dot and ends in .tmp, so that a program that
// reads every configuration in a folder, such as a container runtime, passes it
// over.
func Replace(path string, data []byte, mode fs.FileMode) error {
	if holds(path, data, mode) {
		return nil
	}
	dir := filepath.Dir(path)
	f, err := os.CreateTemp(dir, "."+filepath.Base(path)+".*.tmp")
	if err != nil {
		return err
	}
	_, err = f.Write(data)
	err = errors.Join(err, f.Chmod(mode), f.Sync(), f.Close())
	if err == nil {
		err = os.Rename(f.Name(), path)
	}
	if err != nil {
		return errors.Join(err, os.Remove(f.Name()))
	}
	return SyncDir(dir)
}

func holds(path string, data []byte, mode fs.FileMode) bool {
	have, err := os.ReadFile(path)
	if err != nil || !bytes.Equal(have, data) {
		return false
	}
	info, err := os.Stat(path)
	return err == nil && info.Mode().Perm() == mode
}

// SyncDir makes the names in a directory durable (fsync(2)): without it a file
// that was created, renamed or removed there may be as before after a power
// cut.
func SyncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}
