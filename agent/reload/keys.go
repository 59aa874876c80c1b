package reload

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"reflect"
	"regexp"
	"slices"
	"strings"

	"onlink/agent/config"
	"onlink/internal/atomicfile"
)

// Key is one secret of a configuration: the content of a file of the folder keys
// in paths.state.
type Key struct {
	Name    string
	Content []byte
}

// ErrKey means that a key of a change has no usable name or content.
var ErrKey = errors.New("invalid key file")

// Bounds of the keys of one change.
const (
	maxKeys    = 1024
	maxKeySize = 64 << 10 // bytes
)

// keyName has no slash and does not begin with a dot: a key is in the folder, and is
// no draft of another one.
var keyName = regexp.MustCompile(`^[A-Za-z0-9_-][A-Za-z0-9._-]{0,127}$`)

func checkKeys(keys []Key) error {
	if len(keys) > maxKeys {
		return fmt.Errorf("keys: %w: %d files, and at most %d are accepted", ErrKey, len(keys), maxKeys)
	}
	seen := map[string]bool{}
	for i, k := range keys {
		switch {
		case !keyName.MatchString(k.Name):
			return fmt.Errorf("keys[%d].name: %w: %.140q is not a file name of at most 128 letters, digits, \"-\", \"_\" and \".\", the first no \".\"", i, ErrKey, k.Name)
		case seen[k.Name]:
			return fmt.Errorf("keys[%d].name: %w: %q is in the list twice", i, ErrKey, k.Name)
		case len(k.Content) > maxKeySize:
			return fmt.Errorf("keys[%d].content: %w: %q has %d bytes, and at most %d are accepted", i, ErrKey, k.Name, len(k.Content), maxKeySize)
		}
		seen[k.Name] = true
	}
	return nil
}

// keyring is the folder keys in paths.state: the files in it are those that the
// configuration in force names, and no others.
type keyring struct{ dir string }

func keysOf(c *config.Effective) keyring { return keyring{filepath.Join(c.Paths.State, "keys")} }

// named returns the files of the folder that a configuration names.
func (k keyring) named(c *config.Config) map[string]bool {
	out := map[string]bool{}
	findStrings(reflect.ValueOf(*c), func(s string) {
		if name, ok := strings.CutPrefix(s, k.dir+"/"); ok && !strings.Contains(name, "/") {
			out[name] = true
		}
	})
	return out
}

// findStrings calls each with every string in a value of the configuration.
func findStrings(v reflect.Value, each func(string)) {
	switch v.Kind() { //nolint:exhaustive // the others have no strings
	case reflect.String:
		each(v.String())
	case reflect.Pointer:
		if !v.IsNil() {
			findStrings(v.Elem(), each)
		}
	case reflect.Slice:
		for i := range v.Len() {
			findStrings(v.Index(i), each)
		}
	case reflect.Struct:
		for i := range v.NumField() {
			if v.Type().Field(i).IsExported() {
				findStrings(v.Field(i), each)
			}
		}
	}
}

// write writes the keys that a configuration names, and returns a function that
// brings the folder back to its state before.
func (k keyring) write(c *config.Config, keys []Key) (restore func() error, err error) {
	named := k.named(c)
	var undo []func() error
	restore = func() error {
		var errs []error
		for _, one := range slices.Backward(undo) {
			errs = append(errs, one())
		}
		return errors.Join(errs...)
	}
	for _, key := range keys {
		if !named[key.Name] {
			continue
		}
		path := filepath.Join(k.dir, key.Name)
		old, err := os.ReadFile(path)
		switch {
		case err == nil && bytes.Equal(old, key.Content):
			continue
		case err == nil:
			undo = append(undo, func() error { return atomicfile.Replace(path, old, 0o600) })
		case errors.Is(err, fs.ErrNotExist):
			undo = append(undo, func() error { return removeFile(path) })
			err = os.MkdirAll(k.dir, 0o700)
		}
		if err == nil {
			err = atomicfile.Replace(path, key.Content, 0o600)
		}
		if err != nil {
			return nil, fmt.Errorf("write key file %s: %w", key.Name, errors.Join(err, restore()))
		}
	}
	return restore, nil
}

// removeFile removes a file that may be gone.
func removeFile(path string) error {
	if err := os.Remove(path); !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}

// prune removes the files that a configuration does not name.
func (k keyring) prune(c *config.Config) error {
	entries, err := os.ReadDir(k.dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("remove key files: %w", err)
	}
	named := k.named(c)
	var errs []error
	for _, e := range entries {
		if !named[e.Name()] && !e.IsDir() {
			errs = append(errs, os.Remove(filepath.Join(k.dir, e.Name())))
		}
	}
	if err := errors.Join(errs...); err != nil {
		return fmt.Errorf("remove key files: %w", err)
	}
	return nil
}
