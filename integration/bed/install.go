package bed

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"strings"
)

// policyFile, if it exists, is asked by Debian's maintainer scripts before
// they start a service (invoke-rc.d(8)); exit code 101 forbids it.
const (
	policyFile = "/usr/sbin/policy-rc.d"
	policyText = "#!/bin/sh\n# made by onlink's make deps for the time of one installation\nexit 101\n"
)

// Install makes sure that the Debian packages of needs are there. It installs
// exactly what is missing, without recommended packages; no service is started
// or left enabled by it. With nothing missing it does nothing. As another user
// than root it returns an error, with the command to run, wrapping ErrNotRoot.
func Install(ctx context.Context, out io.Writer, needs ...Need) (err error) {
	absent := missing("/", packagesFor(needs))
	if len(absent) == 0 {
		return nil
	}
	names := mapSlice(absent, func(p debianPackage) string { return p.name })
	command := "apt-get install --no-install-recommends -y " + strings.Join(names, " ")
	if os.Geteuid() != 0 {
		return fmt.Errorf("install packages: %w; run: sudo %s", ErrNotRoot, command)
	}
	if _, err := exec.LookPath("apt-get"); err != nil {
		return fmt.Errorf("install packages: %w: there is no apt-get; install what gives %s", ErrInstall, strings.Join(names, " "))
	}
	for _, p := range absent {
		fmt.Fprintf(out, "installing %s (%s)\n", p.name, p.what)
	}
	remove, err := forbidServices()
	if err != nil {
		return fmt.Errorf("install packages: %w", err)
	}
	defer func() { err = errors.Join(err, remove()) }()
	if err := aptInstall(ctx, out, names); err != nil {
		return err
	}
	disableServices(ctx, out, absent)
	if still := missing("/", absent); len(still) > 0 {
		return fmt.Errorf("%w: %s was installed but %v is not there", ErrInstall, still[0].name, still[0].files)
	}
	return nil
}

// aptInstall installs names; a first failure is answered by fetching the
// package lists, since a fresh machine has none and an old one has stale ones.
func aptInstall(ctx context.Context, out io.Writer, names []string) error {
	args := append([]string{"install", "--no-install-recommends", "-y", "-qq"}, names...)
	if _, err := apt(ctx, args...); err == nil || ctx.Err() != nil {
		return err
	}
	fmt.Fprintln(out, "fetching package lists (apt-get update)")
	if text, err := apt(ctx, "update", "-qq"); err != nil {
		return fmt.Errorf("%w: apt-get update: %w\n%s", ErrInstall, err, text)
	}
	if text, err := apt(ctx, args...); err != nil {
		return fmt.Errorf("%w: apt-get install %s: %w\n%s", ErrInstall, strings.Join(names, " "), err, text)
	}
	return nil
}

func apt(ctx context.Context, args ...string) (string, error) {
	cmd := exec.CommandContext(ctx, "apt-get", args...)
	// Killing dpkg half-way leaves a machine to repair: let it end by itself.
	cmd.Cancel = func() error { return cmd.Process.Signal(os.Interrupt) }
	cmd.Env = append(os.Environ(), "DEBIAN_FRONTEND=noninteractive")
	text, err := cmd.CombinedOutput()
	return string(text), err
}

// forbidServices keeps maintainer scripts from starting daemons; a policy that
// is already there is somebody's and stays as it is.
func forbidServices() (remove func() error, err error) {
	f, err := os.OpenFile(policyFile, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o755)
	if errors.Is(err, fs.ErrExist) {
		return func() error { return nil }, nil
	}
	if err != nil {
		return nil, err
	}
	_, werr := f.WriteString(policyText)
	if err := errors.Join(werr, f.Close()); err != nil {
		return nil, errors.Join(err, os.Remove(policyFile))
	}
	return func() error { return os.Remove(policyFile) }, nil
}

// disableServices undoes the "start at boot" of what was just installed: the
// lab runs its own daemons in its own namespaces.
func disableServices(ctx context.Context, out io.Writer, installed []debianPackage) {
	if _, err := exec.LookPath("systemctl"); err != nil {
		return
	}
	for _, p := range installed {
		if p.service == "" {
			continue
		}
		if text, err := exec.CommandContext(ctx, "systemctl", "disable", "--quiet", p.service).CombinedOutput(); err != nil {
			fmt.Fprintf(out, "note: %s may start at boot; systemctl disable %s: %v: %s\n", p.name, p.service, err, text)
		}
	}
}
