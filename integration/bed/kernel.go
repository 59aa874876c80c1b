package bed

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"

	"onlink/integration/vm"
)

// KernelPackages have tests that say something of a kernel.
var KernelPackages = []string{"./nft", "./tunnel", "./fib", "./fib/underlay", "./integration"}

// Interpreted is the accelerator of QEMU that works everywhere.
const Interpreted = "tcg,thread=multi"

// KernelOptions says what Kernel runs.
type KernelOptions struct {
	Out io.Writer
	Run string // tests to run, a pattern of go test
	// Packages are those that have the tests, as paths below the module's root.
	Packages []string
	// Env is added to the environment of the tests.
	Env []string
	// Network lets the tests reach this machine, see [vm.Options].
	Network bool
	// Accel is QEMU's accelerator, see [vm.Options].
	Accel string
}

// Kernel runs tests on Debian's stock kernel in QEMU, which has ipip and
// nftables at once. They need the binaries of make build.
func Kernel(ctx context.Context, opts KernelOptions) (err error) {
	root, err := moduleRoot(ctx)
	if err != nil {
		return err
	}
	say := newProgress(opts.Out)
	kernel, err := vm.Unpack(ctx, filepath.Join(root, "build", "kernel"))
	if err != nil {
		return err
	}
	out, err := os.MkdirTemp("", "onlink-vm-")
	if err != nil {
		return fmt.Errorf("make bed: %w", err)
	}
	defer func() {
		if rerr := os.RemoveAll(out); err == nil {
			err = rerr
		}
	}()
	say.printf("building the tests of %s", strings.Join(opts.Packages, " "))
	script, err := buildForVM(ctx, root, out, &opts)
	if err != nil {
		return err
	}
	say.printf("booting Linux %s", kernel.Release)
	var ran passes
	code, err := vm.Run(ctx, vm.Options{
		Kernel: kernel, Out: out, Init: filepath.Join(out, "vminit"), Dir: root, Output: io.MultiWriter(opts.Out, &ran), Accel: opts.Accel, Network: opts.Network,
		Env: append([]string{"ONLINK_BIN=" + filepath.Join(root, "bin")}, opts.Env...),
	}, []string{"/bin/sh", "-c", script})
	if err != nil {
		return err
	}
	if code != 0 {
		return fmt.Errorf("tests on Linux %s: exit code %d, see above", kernel.Release, code)
	}
	if ran.count == 0 {
		return fmt.Errorf("no test is called %s", opts.Run)
	}
	say.printf("%d tests and parts passed on Linux %s", ran.count, kernel.Release)
	return nil
}

// passes counts the tests and subtests that passed, in the output of go test.
type passes struct {
	line  []byte
	count int
}

func (p *passes) Write(b []byte) (int, error) {
	for _, c := range b {
		if p.line = append(p.line, c); c != '\n' {
			continue
		}
		if bytes.HasPrefix(bytes.TrimSpace(p.line), []byte("--- PASS")) {
			p.count++
		}
		p.line = p.line[:0]
	}
	return len(b), nil
}

// buildForVM builds PID 1 and the tests into out, and returns what runs them.
func buildForVM(ctx context.Context, root, out string, opts *KernelOptions) (script string, err error) {
	r := &run{root: root}
	if err := r.static(ctx, "build", "-o", filepath.Join(out, "vminit"), "./integration/cmd/vminit"); err != nil {
		return "", err
	}
	var b strings.Builder
	b.WriteString("failed=0\n")
	for i, pkg := range opts.Packages {
		name := fmt.Sprintf("%d.test", i)
		if err := r.static(ctx, "test", "-c", "-o", filepath.Join(out, name), pkg); err != nil {
			return "", err
		}
		fmt.Fprintf(&b, "echo '== %s'; cd %s/%s && /out/%s -test.v -test.timeout 60m -test.run '%s' || failed=1\n", pkg, root, pkg, name, strings.ReplaceAll(opts.Run, "'", ""))
	}
	b.WriteString("exit $failed\n")
	return b.String(), nil
}
