package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"
)

// The keys of nfpm's configuration that are used (https://nfpm.goreleaser.com,
// "Configuration").
type (
	nfpmConfig struct {
		Name          string            `json:"name"`
		Arch          string            `json:"arch"`
		Platform      string            `json:"platform"`
		Version       string            `json:"version"`
		VersionSchema string            `json:"version_schema"`
		Release       string            `json:"release"`
		Section       string            `json:"section"`
		Priority      string            `json:"priority"`
		Maintainer    string            `json:"maintainer"`
		Description   string            `json:"description"`
		Homepage      string            `json:"homepage,omitempty"`
		License       string            `json:"license"`
		MTime         time.Time         `json:"mtime"`
		Recommends    []string          `json:"recommends"`
		Contents      []nfpmFile        `json:"contents"`
		Scripts       map[string]string `json:"scripts"`
		Overrides     map[string]any    `json:"overrides"`
		RPM           nfpmRPM           `json:"rpm"`
	}
	nfpmFile struct {
		Source      string   `json:"src"`
		Destination string   `json:"dst"`
		Type        string   `json:"type,omitempty"`
		Packager    kind     `json:"packager,omitempty"`
		Info        nfpmInfo `json:"file_info"`
	}
	nfpmInfo struct {
		Mode  uint32    `json:"mode,omitempty"`
		MTime time.Time `json:"mtime"`
	}
	nfpmRPM struct {
		Summary   string `json:"summary"`
		BuildHost string `json:"buildhost"` // else this machine's name
	}
)

const (
	summary     = "BGP route-reflecting node agent with a CNI plugin"
	description = summary + `
onlink announces the pod blocks of a node over BGP, learns those of its peers,
and installs each route directly where its next hop is on-link and through one
one-to-many tunnel where it is not.`
)

// writePackages writes the deb and the rpm.
func writePackages(ctx context.Context, o *options, c *content) (err error) {
	stage, err := os.MkdirTemp("", "onlink-dist-")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(stage)) }()
	cfg := newConfig(o, c.arch)
	for n, f := range c.files {
		entry := nfpmFile{Source: f.link, Destination: f.path, Packager: f.only, Info: nfpmInfo{Mode: uint32(f.mode), MTime: o.time()}}
		switch {
		case f.link != "":
			entry.Type = "symlink"
		default:
			entry.Source = filepath.Join(stage, fmt.Sprintf("%03d", n))
			if f.config {
				entry.Type = "config|noreplace"
			}
			if err := os.WriteFile(entry.Source, f.text, 0o600); err != nil {
				return err
			}
		}
		cfg.Contents = append(cfg.Contents, entry)
	}
	text, err := json.MarshalIndent(cfg, "", "  ") // a part of YAML
	if err != nil {
		return err
	}
	file := filepath.Join(stage, "nfpm.yaml")
	if err := os.WriteFile(file, text, 0o600); err != nil {
		return err
	}
	for _, k := range []kind{debOnly, rpmOnly} {
		if err := o.runNFPM(ctx, file, k, filepath.Join(o.out, packageFile(k, cfg.Version, c.arch))); err != nil {
			return err
		}
	}
	return nil
}

func newConfig(o *options, arch string) *nfpmConfig {
	c := &nfpmConfig{
		Name: "onlink", Arch: arch, Platform: "linux", Version: packageVersion(o.version), VersionSchema: "none", Release: "1",
		Section: "net", Priority: "optional", Maintainer: maintainer, Description: description, License: "Apache-2.0", MTime: o.time(),
		Recommends: []string{"iproute2"}, Scripts: map[string]string{},
		Overrides: map[string]any{"rpm": map[string][]string{"recommends": {"iproute"}}},
		RPM:       nfpmRPM{Summary: summary, BuildHost: "onlink.invalid"},
	}
	for _, s := range []string{"postinstall", "preremove", "postremove"} {
		c.Scripts[s] = filepath.Join(o.root, "deploy/packages", s+".sh")
	}
	return c
}

// packageFile returns the name that dpkg and rpm give to such a package.
func packageFile(k kind, version, arch string) string {
	if k == debOnly {
		return fmt.Sprintf("onlink_%s-1_%s.deb", version, arch)
	}
	if name, other := map[string]string{"amd64": "x86_64", "arm64": "aarch64"}[arch]; other {
		arch = name
	}
	return fmt.Sprintf("onlink-%s-1.%s.rpm", version, arch)
}

func (o *options) runNFPM(ctx context.Context, config string, k kind, to string) error {
	words := append(strings.Fields(o.nfpm), "package", "--config", config, "--packager", string(k), "--target", to)
	cmd := exec.CommandContext(ctx, words[0], words[1:]...) //nolint:gosec // of the command line
	cmd.Env = append(os.Environ(), fmt.Sprintf("SOURCE_DATE_EPOCH=%d", o.epoch))
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("%s: %w\n%s", strings.Join(words, " "), err, out)
	}
	return nil
}
