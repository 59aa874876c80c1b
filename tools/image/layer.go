package main

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"crypto/sha256"
	"debug/elf"
	"errors"
	"fmt"
	"io"
	"os"
	"path"
	"path/filepath"
	"time"
)

// The users of the image: onlinkd needs root's number for its capabilities, onlink-kube
// runs as the other.
const (
	passwd = "root:x:0:0:root:/:/sbin/nologin\nonlink:x:65532:65532:onlink:/:/sbin/nologin\n"
	group  = "root:x:0:\nonlink:x:65532:\n"
)

// binDir is the folder of the programs, inside the image.
const binDir = "usr/local/bin"

// goArch names processors as images do: by GOARCH.
var goArch = map[elf.Machine]string{elf.EM_X86_64: "amd64", elf.EM_AARCH64: "arm64", elf.EM_RISCV: "riscv64"}

// layer is the only layer of an image: its files as a compressed tar.
type layer struct {
	blob   []byte // compressed
	diffID string // digest of the tar
	arch   string
	bins   []string // paths of the programs in the image
}

// newLayer reads the programs. It rejects one that needs a library or is for
// another processor than the others: it would not start in the image.
func newLayer(programs []string) (*layer, error) {
	var blob bytes.Buffer
	l := new(layer)
	sum := sha256.New()
	zip, err := gzip.NewWriterLevel(&blob, gzip.DefaultCompression)
	if err != nil {
		return nil, err
	}
	t := tar.NewWriter(io.MultiWriter(zip, sum))
	if err := addSystem(t); err != nil {
		return nil, err
	}
	for _, p := range programs {
		if err := l.addProgram(t, p); err != nil {
			return nil, fmt.Errorf("program %s: %w", p, err)
		}
	}
	if err := errors.Join(t.Close(), zip.Close()); err != nil {
		return nil, err
	}
	l.blob, l.diffID = blob.Bytes(), fmt.Sprintf("sha256:%x", sum.Sum(nil))
	return l, nil
}

// addSystem adds what is in the image beside programs.
func addSystem(t *tar.Writer) error {
	for _, dir := range []string{"etc/", "tmp/", "usr/", "usr/local/", binDir + "/"} {
		mode := int64(0o755)
		if dir == "tmp/" {
			mode = 0o1777
		}
		if err := t.WriteHeader(header(dir, tar.TypeDir, mode, 0)); err != nil {
			return err
		}
	}
	return errors.Join(add(t, "etc/group", 0o644, []byte(group)), add(t, "etc/passwd", 0o644, []byte(passwd)))
}

func (l *layer) addProgram(t *tar.Writer, file string) error {
	text, err := os.ReadFile(file)
	if err != nil {
		return err
	}
	arch, err := static(text)
	if err != nil {
		return err
	}
	if l.arch == "" {
		l.arch = arch
	}
	if arch != l.arch {
		return fmt.Errorf("it is for %s, the others for %s: build all for one processor", arch, l.arch)
	}
	name := path.Join(binDir, filepath.Base(file))
	l.bins = append(l.bins, "/"+name)
	return add(t, name, 0o755, text)
}

// static returns the processor of a program, or why it would not start in an
// image without libraries.
func static(program []byte) (arch string, err error) {
	f, err := elf.NewFile(bytes.NewReader(program))
	if err != nil {
		return "", fmt.Errorf("not an ELF program: %w", err)
	}
	for _, p := range f.Progs {
		if p.Type == elf.PT_INTERP {
			return "", errors.New("not static: build it with CGO_ENABLED=0")
		}
	}
	arch, known := goArch[f.Machine]
	if !known {
		return "", fmt.Errorf("processor %s is none of amd64, arm64 and riscv64", f.Machine)
	}
	return arch, nil
}

func add(t *tar.Writer, name string, mode int64, text []byte) error {
	if err := t.WriteHeader(header(name, tar.TypeReg, mode, int64(len(text)))); err != nil {
		return err
	}
	_, err := t.Write(text)
	return err
}

// header has no time and no user of the machine that makes the image: both would
// make other bytes of the same programs.
func header(name string, kind byte, mode, size int64) *tar.Header {
	return &tar.Header{Name: name, Typeflag: kind, Mode: mode, Size: size, ModTime: time.Unix(0, 0), Format: tar.FormatUSTAR}
}
