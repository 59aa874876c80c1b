package main

import (
	"bytes"
	"cmp"
	"compress/gzip"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"slices"
	"strings"
)

// Where a package has its files.
const (
	binDir  = "/usr/bin"
	docDir  = "/usr/share/doc/onlink"
	cniDir  = "/opt/cni/bin"
	unitDir = "/usr/lib/systemd/system"
)

// The people of the packages.
const maintainer = "The onlink authors <authors@onlink.invalid>"

// A file is in every package, or in those of one kind.
type kind string

const (
	everywhere kind = ""
	debOnly    kind = "deb"
	rpmOnly    kind = "rpm"
)

// file is one file of the packages, owned by root.
type file struct {
	path   string // absolute
	text   []byte
	mode   os.FileMode
	link   string // of a symbolic link: where it points
	config bool   // an operator edits it: an upgrade keeps his text
	only   kind
}

// content is what the packages of one processor have.
type content struct {
	arch  string
	files []file // by path
	sbom  []byte
}

func (c *content) add(path string, text []byte) {
	c.files = append(c.files, file{path: path, text: text, mode: 0o644})
}

// gather reads and makes the files.
func gather(ctx context.Context, o *options, programs []*program) (*content, error) {
	c := &content{arch: programs[0].setting("GOARCH")}
	modules, err := readModules(ctx, o.root, programs)
	if err != nil {
		return nil, err
	}
	if c.sbom, err = bill(o, programs, modules); err != nil {
		return nil, err
	}
	c.add(docDir+"/onlink.spdx.json", c.sbom)
	c.add(docDir+"/THIRD-PARTY-LICENSES", licenseTexts(modules))
	c.addPrograms(programs)
	for _, step := range []func() error{
		func() error { return c.addSystem(o) },
		func() error { return c.addDocs(o.root) },
		func() error { return c.addCompletions(ctx, o.host) },
		func() error { return c.addManual(o.man) },
		func() error { return c.addDebian(o) },
	} {
		if err := step(); err != nil {
			return nil, err
		}
	}
	slices.SortFunc(c.files, func(a, b file) int {
		return cmp.Or(strings.Compare(a.path, b.path), strings.Compare(string(a.only), string(b.only)))
	})
	return c, nil
}

// addPrograms puts the plugin where container runtimes look, and a link to it beside
// onlinkd, where onlinkd install-cni looks.
func (c *content) addPrograms(programs []*program) {
	for _, p := range programs {
		dir := binDir
		if p.name == pluginName {
			dir = cniDir
			c.files = append(c.files, file{path: path.Join(binDir, p.name), link: path.Join(dir, p.name), mode: 0o777})
		}
		c.files = append(c.files, file{path: path.Join(dir, p.name), text: p.text, mode: 0o755})
	}
}

// addSystem adds what systemd, the operator and ip(8) read.
func (c *content) addSystem(o *options) error {
	unit, err := os.ReadFile(filepath.Join(o.root, "deploy/systemd/onlinkd.service"))
	if err != nil {
		return err
	}
	c.add(unitDir+"/onlinkd.service", bytes.ReplaceAll(unit, []byte("/usr/local/bin/"), []byte(binDir+"/")))
	for to, from := range map[string]string{
		"/etc/onlink/onlinkd.yaml":              "deploy/packages/onlinkd.yaml",
		"/etc/iproute2/rt_protos.d/onlink.conf": "deploy/systemd/rt_protos.d-onlink.conf",
	} {
		text, err := os.ReadFile(filepath.Join(o.root, from))
		if err != nil {
			return err
		}
		c.files = append(c.files, file{path: to, text: text, mode: 0o644, config: true})
	}
	return nil
}

// addDocs adds the pages, in the folders of the tree: their links hold.
func (c *content) addDocs(root string) error {
	for _, pattern := range []string{
		"README.md", "CHANGELOG.md", "LICENSE", "docs/*.md", "docs/reference/*.md", "docs/pictures/*.svg",
		"deploy/security/*", "deploy/kubernetes/onlink.yaml", "deploy/monitoring/dashboard.json", "deploy/monitoring/rules.yaml",
	} {
		found, err := filepath.Glob(filepath.Join(root, pattern))
		if err != nil {
			return err
		}
		if len(found) == 0 {
			return fmt.Errorf("%s: no such file in %s", pattern, root)
		}
		for _, f := range found {
			text, err := os.ReadFile(f)
			if err != nil {
				return err
			}
			name, err := filepath.Rel(root, f)
			if err != nil {
				return err
			}
			c.add(path.Join(docDir, filepath.ToSlash(name)), text)
		}
	}
	return nil
}

// addCompletions adds what the programs print for the shells. zsh has a folder for
// packages that Debian names otherwise.
func (c *content) addCompletions(ctx context.Context, dir string) error {
	for _, name := range []string{agentName, ctlName, kubeName} {
		for shell, to := range map[string][]file{
			"bash": {{path: "/usr/share/bash-completion/completions/" + name}},
			"fish": {{path: "/usr/share/fish/vendor_completions.d/" + name + ".fish"}},
			"zsh": {
				{path: "/usr/share/zsh/vendor-completions/_" + name, only: debOnly},
				{path: "/usr/share/zsh/site-functions/_" + name, only: rpmOnly},
			},
		} {
			text, err := output(ctx, filepath.Join(dir, name), "completion", shell)
			if err != nil {
				return err
			}
			for _, f := range to {
				f.text, f.mode = text, 0o644
				c.files = append(c.files, f)
			}
		}
	}
	text, err := output(ctx, filepath.Join(dir, agentName), "--print-default-config")
	c.add(docDir+"/onlinkd.default.yaml", text)
	return err
}

// addManual adds the manual pages, compressed as man(1) and the distributions have them.
func (c *content) addManual(dir string) error {
	pages, err := filepath.Glob(filepath.Join(dir, "man[158]", "onlink*.[158]"))
	if err != nil {
		return err
	}
	if len(pages) == 0 {
		return fmt.Errorf("no manual page in %s: make dist has TestManual write them", dir)
	}
	for _, page := range pages {
		text, err := os.ReadFile(page)
		if err != nil {
			return err
		}
		if text, err = zipped(text); err != nil {
			return err
		}
		c.add("/usr/share/man/"+filepath.Base(filepath.Dir(page))+"/"+filepath.Base(page)+".gz", text)
	}
	return nil
}

// zipped compresses without a name and a time.
func zipped(text []byte) ([]byte, error) {
	var out bytes.Buffer
	zip, err := gzip.NewWriterLevel(&out, gzip.BestCompression)
	if err != nil {
		return nil, err
	}
	if _, err := zip.Write(text); err != nil {
		return nil, err
	}
	err = zip.Close()
	return out.Bytes(), err
}

func output(ctx context.Context, program string, args ...string) ([]byte, error) {
	var errs bytes.Buffer
	cmd := exec.CommandContext(ctx, program, args...)
	cmd.Stderr = &errs
	out, err := cmd.Output()
	if err == nil && len(out) == 0 {
		err = fmt.Errorf("no output") //nolint:perfsprint // one form of the error
	}
	if err != nil {
		return nil, fmt.Errorf("run %s %s: %w: %s", program, strings.Join(args, " "), err, bytes.TrimSpace(errs.Bytes()))
	}
	return out, nil
}

// addDebian adds what Debian's policy wants beside: chapters 4.4 and 12.5, and the
// exceptions of lintian(1).
func (c *content) addDebian(o *options) error {
	for _, name := range []string{"copyright", "lintian-overrides"} {
		text, err := os.ReadFile(filepath.Join(o.root, "deploy/packages", name))
		if err != nil {
			return err
		}
		to := docDir + "/copyright"
		if name != "copyright" {
			to = "/usr/share/lintian/overrides/onlink"
		}
		c.files = append(c.files, file{path: to, text: text, mode: 0o644, only: debOnly})
	}
	changes, err := zipped(fmt.Appendf(nil, "onlink (%s-1) unstable; urgency=medium\n\n  * %s/CHANGELOG.md lists the changes.\n\n -- %s  %s\n",
		packageVersion(o.version), docDir, maintainer, o.time().Format("Mon, 02 Jan 2006 15:04:05 -0700")))
	if err != nil {
		return err
	}
	c.files = append(c.files, file{path: docDir + "/changelog.Debian.gz", text: changes, mode: 0o644, only: debOnly})
	return nil
}
