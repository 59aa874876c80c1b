// Package binaries builds the programs of a Kubernetes cluster from Go modules
// alone: no release is downloaded, no repository cloned. They belong to a module
// of their own, made here, so that the project's does not require Kubernetes.
package binaries

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"time"
)

// Version is the release of Kubernetes.
const Version = "v1.36.3"

// pluginsVersion is the release of the reference CNI plugins.
const pluginsVersion = "v1.9.1"

// ErrModule says that a module lacks what it must have.
var ErrModule = errors.New("unexpected module")

// kubernetes lists the programs of module k8s.io/kubernetes, quick ones last: they
// reuse what the others have compiled.
var kubernetes = []string{"kube-apiserver", "kube-controller-manager", "kubelet", "kube-scheduler", "kube-proxy", "kubectl"}

// plugins are the packages of the reference plugins.
var plugins = []string{"plugins/main/ptp", "plugins/main/loopback", "plugins/ipam/host-local"}

// build is one call of Build.
type build struct {
	dir string // module and, in bin, programs
	out io.Writer
}

// Dir returns the folder of the programs of this version below a root such as
// build/kube.
func Dir(root string) string { return filepath.Join(root, Version, "bin") }

// Build makes the programs that are not there yet and returns their folder, [Dir].
// Without any it takes eight minutes on two CPUs, most of them over the first; out
// gets a line for each.
func Build(ctx context.Context, root string, out io.Writer) (string, error) {
	dir, err := filepath.Abs(filepath.Join(root, Version))
	if err != nil {
		return "", fmt.Errorf("build Kubernetes: %w", err)
	}
	b := build{dir: dir, out: out}
	if b.done() {
		return Dir(root), nil
	}
	began := time.Now()
	if err := b.all(ctx); err != nil {
		return "", fmt.Errorf("build Kubernetes %s: %w", Version, err)
	}
	fmt.Fprintf(out, "built Kubernetes %s in %s: %s\n", Version, time.Since(began).Round(time.Second), Dir(root))
	return Dir(root), nil
}

// recipe changes with everything that the programs depend on.
func recipe() string {
	sum := sha256.Sum256([]byte(strings.Join(append(append([]string{Version, pluginsVersion}, kubernetes...), plugins...), "\n")))
	return hex.EncodeToString(sum[:])
}

// done reports whether a build of this recipe has ended well.
func (b build) done() bool {
	text, err := os.ReadFile(filepath.Join(b.dir, "recipe"))
	return err == nil && string(text) == recipe()
}

func (b build) all(ctx context.Context) error {
	if err := os.MkdirAll(filepath.Join(b.dir, "bin"), 0o755); err != nil {
		return err
	}
	if err := b.module(ctx); err != nil {
		return err
	}
	const variables = "k8s.io/component-base/version"
	minor := strings.Split(Version, ".")[1]
	// A kubelet without these calls itself v0.0.0-master.
	flags := fmt.Sprintf("-s -w -X %[1]s.gitVersion=%[2]s -X %[1]s.gitMajor=1 -X %[1]s.gitMinor=%[3]s -X %[1]s.gitTreeState=clean", variables, Version, minor)
	for _, name := range kubernetes {
		if err := b.program(ctx, name, flags, "k8s.io/kubernetes/cmd/"+name); err != nil {
			return err
		}
	}
	if err := b.program(ctx, "etcd", "-s -w", "go.etcd.io/etcd/server/v3"); err != nil {
		return err
	}
	for _, path := range plugins {
		if err := b.plugin(ctx, path); err != nil {
			return err
		}
	}
	return os.WriteFile(filepath.Join(b.dir, "recipe"), []byte(recipe()), 0o644)
}

// staging is a module in a folder of Kubernetes' own repository.
var staging = regexp.MustCompile(`=> \./staging/src/k8s\.io/(\S+)`)

// module makes go.mod and go.sum: Kubernetes' own are the list of versions, with
// the published modules in place of its folders.
func (b build) module(ctx context.Context) error {
	began := time.Now()
	text, err := b.run(ctx, "go", "mod", "download", "-json", "k8s.io/kubernetes@"+Version)
	if err != nil {
		return err
	}
	var module struct{ Dir string }
	if err := json.Unmarshal([]byte(text), &module); err != nil {
		return fmt.Errorf("read go mod download: %w", err)
	}
	requirements, err := os.ReadFile(filepath.Join(module.Dir, "go.mod"))
	if err != nil {
		return err
	}
	_, body, ok := strings.Cut(string(requirements), "\nmodule k8s.io/kubernetes\n")
	if !ok {
		return fmt.Errorf("%w: go.mod of k8s.io/kubernetes has no line module", ErrModule)
	}
	published := "v0." + strings.TrimPrefix(Version, "v1.")
	body = staging.ReplaceAllString(body, "=> k8s.io/${1} "+published)
	body = "module cluster\n" + body + "\nrequire k8s.io/kubernetes " + Version + "\n"
	sums, err := os.ReadFile(filepath.Join(module.Dir, "go.sum"))
	if err == nil {
		err = errors.Join(
			os.WriteFile(filepath.Join(b.dir, "go.mod"), []byte(body), 0o644),
			os.WriteFile(filepath.Join(b.dir, "go.sum"), sums, 0o644))
	}
	if err == nil {
		b.say("module k8s.io/kubernetes %s", began, Version)
	}
	return err
}

// program builds one program of the module.
func (b build) program(ctx context.Context, name, flags, path string) error {
	began := time.Now()
	// -mod=mod adds the sums of the published modules.
	_, err := b.run(ctx, "go", "build", "-mod=mod", "-trimpath", "-ldflags", flags, "-o", filepath.Join("bin", name), path)
	if err == nil {
		b.say("%s", began, name)
	}
	return err
}

// plugin builds one of the reference plugins, which have a module of their own.
func (b build) plugin(ctx context.Context, path string) error {
	began := time.Now()
	_, err := b.run(ctx, "go", "install", "-trimpath", "-ldflags=-s -w", "github.com/containernetworking/plugins/"+path+"@"+pluginsVersion)
	if err == nil {
		b.say("%s", began, filepath.Base(path))
	}
	return err
}

// say prints a line with the time that a step took.
func (b build) say(format string, began time.Time, args ...any) {
	fmt.Fprintf(b.out, "%s built %s (%s)\n", time.Now().Format(time.TimeOnly), fmt.Sprintf(format, args...), time.Since(began).Round(time.Second))
}

func (b build) run(ctx context.Context, argv ...string) (string, error) {
	cmd := exec.CommandContext(ctx, argv[0], argv[1:]...)
	cmd.Dir = b.dir
	// GOFLAGS may name a go.mod of the project's, and a workspace its modules.
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0", "GOFLAGS=-buildvcs=false", "GOWORK=off", "GOBIN="+filepath.Join(b.dir, "bin"))
	var stderr strings.Builder
	cmd.Stderr = &stderr
	text, err := cmd.Output()
	if err != nil {
		return "", fmt.Errorf("%s: %w\n%s", strings.Join(argv, " "), errors.Join(err, ctx.Err()), stderr.String())
	}
	return string(text), nil
}
