package main

import (
	"bytes"
	"errors"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"go.yaml.in/yaml/v3"

	"onlink/agent/config"
)

const manifest = "../../deploy/kubernetes/onlink.yaml"

// object is what the tests read of a Kubernetes object.
type object struct {
	Kind     string
	Metadata struct{ Name string }
	Data     map[string]string
	Spec     struct {
		Template struct {
			Spec struct {
				HostNetwork bool `yaml:"hostNetwork"`
				Containers  []struct {
					Args         []string
					VolumeMounts []struct {
						Name      string
						MountPath string `yaml:"mountPath"`
					} `yaml:"volumeMounts"`
				}
				Volumes []struct {
					Name     string
					HostPath struct{ Path string } `yaml:"hostPath"`
				}
			}
		}
	}
}

func objects(t *testing.T) []object {
	t.Helper()
	text, err := os.ReadFile(manifest)
	if err != nil {
		t.Fatal(err)
	}
	var out []object
	for d := yaml.NewDecoder(bytes.NewReader(text)); ; {
		var o object
		switch err := d.Decode(&o); {
		case errors.Is(err, io.EOF):
			return out
		case err != nil:
			t.Fatal(err)
		}
		out = append(out, o)
	}
}

// TestManifest holds the manifest to what the agent accepts: its
// configurations are valid, every agent is given one of them, and the folders
// they name are the host's.
func TestManifest(t *testing.T) {
	all := objects(t)
	configs := map[string]*config.Config{}
	for _, o := range all {
		for name, text := range o.Data {
			cfg, err := config.Parse(name, []byte(text))
			if err != nil {
				t.Errorf("ConfigMap %s: %v", o.Metadata.Name, err)
				continue
			}
			configs["/etc/onlink/"+name] = cfg
		}
		if strings.Contains(o.Kind, "Role") || o.Kind == "ServiceAccount" {
			t.Errorf("%s %s: the agent needs no rights in Kubernetes", o.Kind, o.Metadata.Name)
		}
	}
	started := 0
	for _, o := range all {
		if o.Kind != "DaemonSet" {
			continue
		}
		started++
		pod := o.Spec.Template.Spec
		c := pod.Containers[0]
		cfg := configs[c.Args[slices.Index(c.Args, "--config")+1]]
		if cfg == nil || !pod.HostNetwork {
			t.Errorf("%s: configuration %v of %v, host network %v", o.Metadata.Name, c.Args, configs, pod.HostNetwork)
			continue
		}
		host := map[string]string{}
		for _, v := range pod.Volumes {
			host[v.Name] = v.HostPath.Path
		}
		for _, want := range []string{cfg.CNI.Install.BinDir, cfg.CNI.Install.ConfDir, cfg.Paths.State, filepath.Dir(cfg.CNI.Socket), "/run/netns"} {
			found := false
			for _, m := range c.VolumeMounts {
				found = found || m.MountPath == want && host[m.Name] == want
			}
			if !found {
				t.Errorf("%s: %s is not the host's", o.Metadata.Name, want)
			}
		}
	}
	if started != len(configs) || started == 0 {
		t.Errorf("%d DaemonSets for %d configurations", started, len(configs))
	}
}
