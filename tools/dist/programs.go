package main

import (
	"bytes"
	"debug/buildinfo"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime/debug"
)

// The programs of a package.
const (
	agentName  = "onlinkd"
	ctlName    = "onlinkctl"
	kubeName   = "onlink-kube"
	pluginName = "onlink-cni"
)

// program is one of them.
type program struct {
	name string
	text []byte
	info *debug.BuildInfo
}

// setting returns a key of the build information.
func (p *program) setting(key string) string {
	for _, s := range p.info.Settings {
		if s.Key == key {
			return s.Value
		}
	}
	return ""
}

// readPrograms reads the programs, which must be for one processor, and static: a
// package names no library that they need.
func readPrograms(dir string) ([]*program, error) {
	var out []*program
	for _, name := range []string{agentName, ctlName, kubeName, pluginName} {
		text, err := os.ReadFile(filepath.Join(dir, name))
		if err != nil {
			return nil, err
		}
		p := &program{name: name, text: text}
		if p.info, err = buildinfo.Read(bytes.NewReader(text)); err != nil {
			return nil, fmt.Errorf("program %s: %w", name, err)
		}
		if err := p.check(out); err != nil {
			return nil, fmt.Errorf("program %s: %w", name, err)
		}
		out = append(out, p)
	}
	return out, nil
}

func (p *program) check(others []*program) error {
	switch arch := p.setting("GOARCH"); {
	case p.setting("GOOS") != "linux":
		return fmt.Errorf("it is for %q; build it with GOOS=linux", p.setting("GOOS"))
	case p.setting("CGO_ENABLED") != "0":
		return errors.New("not static: build it with CGO_ENABLED=0")
	case p.setting("-trimpath") != "true":
		return errors.New("it has the paths of this machine: build it with -trimpath")
	case len(others) > 0 && arch != others[0].setting("GOARCH"):
		return fmt.Errorf("it is for %s, %s for %s: build all for one processor", arch, others[0].name, others[0].setting("GOARCH"))
	}
	return nil
}
