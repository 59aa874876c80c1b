// Command dist makes the packages of one processor from programs that are built
// already: a tar.gz, a deb and an rpm with the same files, and the list of what is in
// them as SPDX. Same programs, version and time make same bytes, on any machine:
//
//	go run ./tools/dist -version v0.1.0 -epoch 1796021231 -bin build/arm64 -host build/amd64 -man build/man -o build/dist
//
// make dist calls it for every processor. The deb and the rpm are written by nfpm.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"
)

func main() {
	if err := run(context.Background(), os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "dist:", err)
		os.Exit(1)
	}
}

// options are the command's flags.
type options struct {
	version string
	epoch   int64
	root    string // of the tree
	bin     string // folder of the programs to pack
	man     string // folder with man1, man5 and man8
	host    string // folder of programs that run here: they print the completions
	nfpm    string // the command that starts it
	out     string
}

func (o *options) time() time.Time { return time.Unix(o.epoch, 0).UTC() }

func (o *options) validate() error {
	switch {
	case !strings.HasPrefix(o.version, "v"):
		return fmt.Errorf("-version %q: use one such as v0.1.0; tools/version.sh prints it", o.version)
	case o.epoch <= 0:
		return errors.New("-epoch is missing: use the second of the last commit, which tools/version.sh --epoch prints, or set SOURCE_DATE_EPOCH")
	case o.bin == "" || o.man == "" || o.out == "":
		return errors.New("-bin, -man and -o are needed: the folders of the programs, of their manual pages, and of the packages")
	}
	return nil
}

func run(ctx context.Context, args []string) error {
	flags := flag.NewFlagSet("dist", flag.ContinueOnError)
	var o options
	flags.StringVar(&o.version, "version", "", "`version` of the programs")
	flags.Int64Var(&o.epoch, "epoch", 0, "`second` (Unix) of all files")
	flags.StringVar(&o.root, "root", ".", "`folder` of the tree")
	flags.StringVar(&o.bin, "bin", "", "`folder` of the programs")
	flags.StringVar(&o.host, "host", "", "`folder` of the same programs for this machine (default: -bin)")
	flags.StringVar(&o.man, "man", "", "`folder` of the manual pages, which TestManual of the programs makes")
	flags.StringVar(&o.nfpm, "nfpm", "nfpm", "`command` that starts nfpm")
	flags.StringVar(&o.out, "o", "", "`folder` of the packages")
	if err := flags.Parse(args); err != nil {
		return err
	}
	if err := o.validate(); err != nil {
		return err
	}
	if o.host == "" {
		o.host = o.bin
	}
	programs, err := readPrograms(o.bin)
	if err != nil {
		return err
	}
	c, err := gather(ctx, &o, programs)
	if err != nil {
		return err
	}
	return pack(ctx, &o, c)
}

// pack writes the packages of the content, and its list of parts beside them.
func pack(ctx context.Context, o *options, c *content) error {
	if err := os.MkdirAll(o.out, 0o755); err != nil { //nolint:gosec // for everyone
		return err
	}
	v, arch := packageVersion(o.version), c.arch
	list := filepath.Join(o.out, fmt.Sprintf("onlink_%s_%s.spdx.json", v, arch))
	if err := os.WriteFile(list, c.sbom, 0o644); err != nil { //nolint:gosec // for everyone
		return err
	}
	top := fmt.Sprintf("onlink-%s-linux-%s", v, arch)
	if err := writeTarball(filepath.Join(o.out, top+".tar.gz"), top, c.files, o.time()); err != nil {
		return err
	}
	return writePackages(ctx, o, c)
}
