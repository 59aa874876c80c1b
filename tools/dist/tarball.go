package main

import (
	"archive/tar"
	"compress/gzip"
	"errors"
	"fmt"
	"os"
	"time"
)

// writeTarball writes the files below one folder; tar -C / --strip-components=1
// installs them.
func writeTarball(to, top string, files []file, at time.Time) (err error) {
	f, err := os.Create(to)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	zip, err := gzip.NewWriterLevel(f, gzip.BestCompression)
	if err != nil {
		return err
	}
	t := tar.NewWriter(zip)
	for _, f := range files {
		if f.only == rpmOnly {
			continue
		}
		h := &tar.Header{
			Name: top + f.path, Typeflag: tar.TypeReg, Mode: int64(f.mode), Size: int64(len(f.text)),
			Uname: "root", Gname: "root", ModTime: at, Format: tar.FormatPAX,
		}
		if f.link != "" {
			h.Typeflag, h.Linkname = tar.TypeSymlink, f.link
		}
		if err := t.WriteHeader(h); err != nil {
			return fmt.Errorf("%s: %w", f.path, err)
		}
		if _, err := t.Write(f.text); err != nil {
			return fmt.Errorf("%s: %w", f.path, err)
		}
	}
	return errors.Join(t.Close(), zip.Close())
}
