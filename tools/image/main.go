// Command image makes an OCI image layout (image-spec 1.1) of static programs, as
// one tar file, without a container engine:
//
//	go run ./tools/image -o bin/onlink-image.tar -version v1.2.3 bin/onlinkd bin/onlinkctl
//
// The programs are in /usr/local/bin of the image, and the first is its entry
// point. The same programs make the same bytes, so that an image can be made again
// and compared.
package main

import (
	"errors"
	"flag"
	"fmt"
	"os"
	"path/filepath"
)

func main() {
	if err := run(os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "image:", err)
		os.Exit(1)
	}
}

func run(args []string) error {
	flags := flag.NewFlagSet("image", flag.ExitOnError)
	out := flags.String("o", "bin/onlink-image.tar", "write the image to this `file`")
	name := flags.String("name", "docker.io/onlink/onlink", "`name` of the image, without a tag")
	version := flags.String("version", "", "`tag` of the image, besides dev")
	if err := flags.Parse(args); err != nil {
		return err
	}
	if *version == "" {
		return errors.New("no version: set -version")
	}
	if flags.NArg() == 0 {
		return errors.New("no program: name the programs of the image, its entry point first")
	}
	l, err := build(*name, *version, flags.Args())
	if err != nil {
		return err
	}
	// A reader of the file never sees half an image.
	part := *out + ".part"
	if err := os.MkdirAll(filepath.Dir(*out), 0o755); err != nil { //nolint:gosec // bin
		return err
	}
	f, err := os.Create(part)
	if err != nil {
		return err
	}
	if err := errors.Join(l.write(f), f.Close()); err != nil {
		return errors.Join(fmt.Errorf("write %s: %w", part, err), os.Remove(part))
	}
	return os.Rename(part, *out)
}
