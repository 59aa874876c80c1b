package main

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// program builds a static program of this name that ends with this code.
func program(t *testing.T, name string, code int) string {
	t.Helper()
	dir := t.TempDir()
	src, bin := filepath.Join(dir, "main.go"), filepath.Join(dir, name)
	if err := os.WriteFile(src, fmt.Appendf(nil, "package main\n\nimport \"os\"\n\nfunc main() { os.Exit(%d) }\n", code), 0o600); err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), "go", "build", "-trimpath", "-o", bin, src)
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0", "GOFLAGS=", "GOWORK=off")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	return bin
}

// untar returns the files of a tar and what the header of each says.
func untar(t *testing.T, r io.Reader) (files map[string][]byte, heads map[string]string) {
	t.Helper()
	files, heads = map[string][]byte{}, map[string]string{}
	for tr := tar.NewReader(r); ; {
		h, err := tr.Next()
		if errors.Is(err, io.EOF) {
			return files, heads
		}
		if err != nil {
			t.Fatal(err)
		}
		if files[h.Name], err = io.ReadAll(tr); err != nil {
			t.Fatal(err)
		}
		heads[h.Name] = fmt.Sprintf("%c %o %d:%d %d", h.Typeflag, h.Mode, h.Uid, h.Gid, h.ModTime.Unix())
	}
}

// follow reads what a descriptor points at, and holds it to size and digest.
func follow(t *testing.T, files map[string][]byte, d descriptor, v any) []byte {
	t.Helper()
	text, found := files["blobs/"+strings.Replace(d.Digest, ":", "/", 1)]
	if !found || len(text) != d.Size || fmt.Sprintf("sha256:%x", sha256.Sum256(text)) != d.Digest {
		t.Fatalf("blob %+v: found %v, %d bytes", d, found, len(text))
	}
	if v != nil {
		if err := json.Unmarshal(text, v); err != nil {
			t.Fatal(err)
		}
	}
	return text
}

// TestImage reads an image back as a runtime does.
func TestImage(t *testing.T) {
	first, second := program(t, "first", 1), program(t, "second", 2)
	out := filepath.Join(t.TempDir(), "bin", "image.tar")
	args := []string{"-o", out, "-name", "example.org/x/y", "-version", "v1.2", first, second}
	if err := run(args); err != nil {
		t.Fatal(err)
	}
	image, err := os.ReadFile(out)
	if err != nil {
		t.Fatal(err)
	}
	if err := run(args); err != nil {
		t.Fatal(err)
	}
	if again, err := os.ReadFile(out); err != nil || !bytes.Equal(image, again) {
		t.Errorf("a second image of the same programs has other bytes (%v)", err)
	}

	files, _ := untar(t, bytes.NewReader(image))
	if got := string(files["oci-layout"]); got != `{"imageLayoutVersion":"1.0.0"}` {
		t.Errorf("oci-layout: %s", got)
	}
	var i index
	if err := json.Unmarshal(files["index.json"], &i); err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, d := range i.Manifests {
		names = append(names, d.Annotations[noteName])
	}
	if diff := cmp.Diff([]string{"example.org/x/y:v1.2", "example.org/x/y:dev"}, names); diff != "" {
		t.Errorf("names (-want +got):\n%s", diff)
	}
	var m manifest
	var c imageConfig
	follow(t, files, i.Manifests[0], &m)
	follow(t, files, m.Config, &c)
	if diff := cmp.Diff([]string{"/usr/local/bin/first"}, c.Config.Entrypoint); diff != "" {
		t.Errorf("entry point (-want +got):\n%s", diff)
	}
	zip, err := gzip.NewReader(bytes.NewReader(follow(t, files, m.Layers[0], nil)))
	if err != nil {
		t.Fatal(err)
	}
	layer, err := io.ReadAll(zip)
	if err != nil {
		t.Fatal(err)
	}
	if got := fmt.Sprintf("sha256:%x", sha256.Sum256(layer)); got != c.RootFS.DiffIDs[0] {
		t.Errorf("the tar's digest is %s, the configuration has %v", got, c.RootFS.DiffIDs)
	}
	root, heads := untar(t, bytes.NewReader(layer))
	want := map[string]string{
		"etc/": "5 755 0:0 0", "tmp/": "5 1777 0:0 0", "usr/": "5 755 0:0 0", "usr/local/": "5 755 0:0 0", "usr/local/bin/": "5 755 0:0 0",
		"etc/group": "0 644 0:0 0", "etc/passwd": "0 644 0:0 0",
		"usr/local/bin/first": "0 755 0:0 0", "usr/local/bin/second": "0 755 0:0 0",
	}
	if diff := cmp.Diff(want, heads); diff != "" {
		t.Errorf("files of the image (-want +got):\n%s", diff)
	}
	if text, err := os.ReadFile(second); err != nil || !bytes.Equal(text, root["usr/local/bin/second"]) {
		t.Errorf("the program in the image is another (%v)", err)
	}
}

// TestRejected: an image that could not start is an error that names the program.
func TestRejected(t *testing.T) {
	script := filepath.Join(t.TempDir(), "script")
	if err := os.WriteFile(script, []byte("#!/bin/sh\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		name string
		args []string
		want string
	}{
		{"no program", []string{"-version", "v1"}, "no program"},
		{"no version", []string{script}, "no version"},
		{"a script", []string{"-version", "v1", script}, "not an ELF program"},
		{"a program that needs libraries", []string{"-version", "v1", "/bin/sh"}, "not static"},
		{"a missing program", []string{"-version", "v1", script + ".none"}, "script.none"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			out := filepath.Join(t.TempDir(), "image.tar")
			err := run(append([]string{"-o", out}, tt.args...))
			if err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("error %v, want %q in it", err, tt.want)
			}
			if _, err := os.Stat(out); !errors.Is(err, os.ErrNotExist) {
				t.Errorf("an image was written: %v", err)
			}
		})
	}
}
