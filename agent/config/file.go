package config

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"

	"onlink/internal/atomicfile"
	"onlink/internal/strictyaml"
)

// Load reads the configuration in the file path. A file that cannot be read
// gives the error of the os package (fs.ErrNotExist and so on); a file with
// mistakes gives [Errors].
func Load(path string) (*Config, error) { return File{Path: path}.Load() }

// Parse reads the configuration in data; name is the file's name for error
// messages. The error, if any, is of type [Errors] and lists the first 100
// mistakes, with the number of those beyond.
func Parse(name string, data []byte) (*Config, error) { return parse(name, data, Override{}) }

// File is the file that a configuration is kept in.
type File struct {
	Path string
	// Optional makes an absent file stand for an empty one, so that onlinkd runs on
	// a bare node.
	Optional bool
	// Node wins over the file's node.name and node.address.
	Node Override
}

// Load reads the configuration. A file that cannot be read gives the error of
// the os package (fs.ErrNotExist and so on); one with mistakes gives [Errors].
func (f File) Load() (*Config, error) {
	data, err := f.Text()
	if err != nil {
		return nil, err
	}
	return f.Parse(data)
}

// Parse reads data as if it were in the file.
func (f File) Parse(data []byte) (*Config, error) { return parse(f.Path, data, f.Node) }

// Text returns the file's content. Of a file that is too large it returns one
// byte more than the limit, which Parse refuses.
func (f File) Text() ([]byte, error) {
	file, err := os.Open(f.Path)
	if f.Optional && errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, unread(err)
	}
	defer file.Close() // only read from
	data, err := io.ReadAll(io.LimitReader(file, strictyaml.MaxFileSize+1))
	if err != nil {
		return nil, unread(err)
	}
	return data, nil
}

// Again is Text for a file that was read before. A pipe has nothing more to give, and
// one without a writer would keep its reader for ever.
func (f File) Again() ([]byte, error) {
	if info, err := os.Stat(f.Path); err == nil && info.Mode().Type() == fs.ModeNamedPipe {
		return nil, unread(&fs.PathError{Op: "read", Path: f.Path, Err: errPipe})
	}
	return f.Text()
}

// errPipe is the fault of a pipe in the file's place.
var errPipe = errors.New("is a pipe, which can be read once")

// unread says what to do about a file that cannot be read.
func unread(err error) error {
	return fmt.Errorf("read configuration: %w; put a file there that onlinkd can read, or name another with --config", err)
}

// Draft is a file's new content, written beside it and not yet in its place.
type Draft struct {
	temp, path string
}

// Draft writes text beside the file, with the file's owner and mode, so that an
// error comes before the file has changed.
func (f File) Draft(text []byte) (*Draft, error) {
	d := &Draft{path: f.Path}
	if target, err := filepath.EvalSymlinks(f.Path); err == nil {
		d.path = target // a link to the file stays one
	}
	temp, err := os.CreateTemp(filepath.Dir(d.path), "."+filepath.Base(d.path)+"-*")
	if err != nil {
		return nil, fmt.Errorf("write configuration: %w", err)
	}
	d.temp = temp.Name()
	_, err = temp.Write(text)
	err = errors.Join(err, like(d.path, temp), temp.Sync(), temp.Close())
	if err != nil {
		return nil, fmt.Errorf("write configuration: %w", errors.Join(err, d.Discard()))
	}
	return d, nil
}

// like gives a file the owner and the mode of another, or, where that is absent,
// those of a new configuration file.
func like(path string, to *os.File) error {
	info, err := os.Stat(path)
	if errors.Is(err, fs.ErrNotExist) {
		return to.Chmod(0o644)
	}
	if err != nil {
		return err
	}
	if sys, ok := info.Sys().(*syscall.Stat_t); ok {
		if err := to.Chown(int(sys.Uid), int(sys.Gid)); err != nil {
			return err
		}
	}
	return to.Chmod(info.Mode().Perm())
}

// Keep puts the draft in the file's place: after a power cut there is the old or
// the new one.
func (d *Draft) Keep() error {
	if err := os.Rename(d.temp, d.path); err != nil {
		return fmt.Errorf("write configuration: %w", err)
	}
	if err := atomicfile.SyncDir(filepath.Dir(d.path)); err != nil {
		return fmt.Errorf("write configuration: %w", err)
	}
	return nil
}

// Discard removes a draft that was not kept.
func (d *Draft) Discard() error { return os.Remove(d.temp) }
