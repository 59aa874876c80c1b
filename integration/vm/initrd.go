package vm

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
)

// ModuleDir is where the guest finds the modules of its initrd, in the order
// of their names.
const ModuleDir = "/modules"

// writeJob leaves the job for the guest, and no exit code of an earlier one.
func writeJob(out string, job *Job) error {
	text, err := json.Marshal(job)
	if err != nil {
		return fmt.Errorf("encode job: %w", err)
	}
	if err := os.RemoveAll(filepath.Join(out, ExitFile)); err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(out, JobFile), text, 0o600)
}

// writeInitrd writes the first file system of the guest: init and modules, as
// a cpio archive in the form newc (the kernel's
// Documentation/driver-api/early-userspace/buffer-format.rst).
func writeInitrd(path, initFile string, modules []string) error {
	var a archive
	for _, dir := range []string{"proc", "sys", "dev", ModuleDir[1:], "lower", "upper", "root"} {
		a.add(dir, 0o40755, nil)
	}
	if err := a.file("init", initFile); err != nil {
		return err
	}
	for i, m := range modules {
		if err := a.file(fmt.Sprintf("%s/%02d-%s", ModuleDir[1:], i, filepath.Base(m)), m); err != nil {
			return err
		}
	}
	a.add("TRAILER!!!", 0, nil)
	return os.WriteFile(path, a.buf.Bytes(), 0o600)
}

type archive struct {
	buf   bytes.Buffer
	count int
}

func (a *archive) file(name, from string) error {
	content, err := os.ReadFile(from)
	if err != nil {
		return fmt.Errorf("make initrd: %w", err)
	}
	a.add(name, 0o100755, content)
	return nil
}

// add appends one entry: a header of hex numbers, the name, the content, both
// filled up to four bytes.
func (a *archive) add(name string, mode int, content []byte) {
	a.count++
	fmt.Fprintf(&a.buf, "070701%08x%08x%08x%08x%08x%08x%08x%08x%08x%08x%08x%08x%08x", a.count, mode, 0, 0, 1, 0, len(content), 0, 0, 0, 0, len(name)+1, 0)
	a.buf.WriteString(name + "\x00")
	a.fill()
	a.buf.Write(content)
	a.fill()
}

func (a *archive) fill() {
	for a.buf.Len()%4 != 0 {
		a.buf.WriteByte(0)
	}
}
