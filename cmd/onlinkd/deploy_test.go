package main

import (
	"bytes"
	"errors"
	"io"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"go.yaml.in/yaml/v3"

	"onlink/agent/config"
)

const manifest = "../../deploy/kubernetes/onlink.yaml"

// object has the fields that the manifest has of Kubernetes objects, under their
// names in the API: v1 and apps/v1.
type object struct {
	APIVersion string `yaml:"apiVersion"`
	Kind       string
	Metadata   metadata
	Data       map[string]string
	Spec       struct {
		Selector struct {
			MatchLabels map[string]string `yaml:"matchLabels"`
		}
		UpdateStrategy struct {
			RollingUpdate struct {
				MaxUnavailable any `yaml:"maxUnavailable"`
			} `yaml:"rollingUpdate"`
		} `yaml:"updateStrategy"`
		Template struct {
			Metadata metadata
			Spec     podSpec
		}
	}
}

type metadata struct {
	Name, Namespace string
	Labels          map[string]string
}

type podSpec struct {
	Affinity                      map[string]any
	HostNetwork                   bool   `yaml:"hostNetwork"`
	DNSPolicy                     string `yaml:"dnsPolicy"`
	AutomountServiceAccountToken  *bool  `yaml:"automountServiceAccountToken"`
	PriorityClassName             string `yaml:"priorityClassName"`
	Tolerations                   []map[string]string
	TerminationGracePeriodSeconds int `yaml:"terminationGracePeriodSeconds"`
	Containers                    []container
	Volumes                       []volume
}

type volume struct {
	Name      string
	ConfigMap struct{ Name string }       `yaml:"configMap"`
	HostPath  struct{ Path, Type string } `yaml:"hostPath"`
}

type container struct {
	Name, Image     string
	Args            []string
	Env             []envVar
	SecurityContext struct{ Privileged bool } `yaml:"securityContext"`
	Resources       struct{ Requests map[string]string }
	LivenessProbe   probe `yaml:"livenessProbe"`
	ReadinessProbe  probe `yaml:"readinessProbe"`
	VolumeMounts    []struct {
		Name             string
		MountPath        string `yaml:"mountPath"`
		ReadOnly         bool   `yaml:"readOnly"`
		MountPropagation string `yaml:"mountPropagation"`
	} `yaml:"volumeMounts"`
}

type envVar struct {
	Name      string
	ValueFrom struct {
		FieldRef struct {
			FieldPath string `yaml:"fieldPath"`
		} `yaml:"fieldRef"`
	} `yaml:"valueFrom"`
}

type probe struct {
	HTTPGet struct {
		Host, Path string
		Port       int
	} `yaml:"httpGet"`
	PeriodSeconds    int `yaml:"periodSeconds"`
	FailureThreshold int `yaml:"failureThreshold"`
}

func objects(t *testing.T) []object {
	t.Helper()
	text, err := os.ReadFile(manifest)
	if err != nil {
		t.Fatal(err)
	}
	var out []object
	d := yaml.NewDecoder(bytes.NewReader(text))
	d.KnownFields(true) // an API server refuses a misspelt field, or drops it
	for {
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
	identity := map[string]string{envName: "spec.nodeName", envAddress: "status.hostIP"}
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
		o.checkSpec(t)
		given := map[string]string{}
		for _, v := range c.Env {
			given[v.Name] = v.ValueFrom.FieldRef.FieldPath
		}
		if !maps.Equal(given, identity) {
			t.Errorf("%s: who the node is comes from %v, want %v", o.Metadata.Name, given, identity)
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

// checkSpec wants the parts of a DaemonSet to fit each other.
func (o object) checkSpec(t *testing.T) {
	t.Helper()
	pod := o.Spec.Template.Spec
	for key, value := range o.Spec.Selector.MatchLabels {
		if o.Spec.Template.Metadata.Labels[key] != value {
			t.Errorf("%s: its pods have no label %s=%s", o.Metadata.Name, key, value)
		}
	}
	c := pod.Containers[0]
	for _, m := range c.VolumeMounts {
		if !slices.ContainsFunc(pod.Volumes, func(v volume) bool { return v.Name == m.Name }) {
			t.Errorf("%s: %s is no volume", o.Metadata.Name, m.Name)
		}
		// Runtimes make pods' namespaces after the container's start.
		if strings.HasSuffix(m.MountPath, "/netns") && m.MountPropagation != "HostToContainer" {
			t.Errorf("%s: later mounts do not show in %s", o.Metadata.Name, m.MountPath)
		}
	}
	if o.APIVersion != "apps/v1" || o.Metadata.Namespace == "" || !c.SecurityContext.Privileged || pod.AutomountServiceAccountToken == nil || *pod.AutomountServiceAccountToken {
		t.Errorf("%s: %+v", o.Metadata.Name, o)
	}
}
