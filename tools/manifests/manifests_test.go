package main

import (
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"sigs.k8s.io/yaml"
)

const tree = "../../deploy/kubernetes"

// TestRendering: the manifest is that of the chart.
func TestRendering(t *testing.T) {
	want, err := manifest(filepath.Join(tree, "chart"))
	if err != nil {
		t.Fatal(err)
	}
	have, err := os.ReadFile(filepath.Join(tree, "onlink.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(want, string(have)); diff != "" {
		t.Errorf("run make manifests (-chart +onlink.yaml):\n%s", diff)
	}
}

// TestSet: a value of the command line is one of the chart, or an error.
func TestSet(t *testing.T) {
	text, err := manifest(filepath.Join(tree, "chart"), "networkPolicy.enabled=true", "image.tag=v7")
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"  name: onlink-policy\n", ":v7\n"} {
		if !strings.Contains(text, want) {
			t.Errorf("the manifest lacks %q", want)
		}
	}
	for set, want := range map[string]string{
		"networkPolicy.enabled": "use SECTION.KEY=VALUE", "enabled=true": "use SECTION.KEY=VALUE", "policy.enabled=true": "no section policy",
		"networkPolicy.enable=true": "no networkPolicy.enable", "image.tag=[": "set image.tag: ",
	} {
		if _, err := manifest(filepath.Join(tree, "chart"), set); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("-set %s: %v, want %q", set, err, want)
		}
	}
}

// TestNetworkPolicy: what enforces NetworkPolicies is in pods of its own, with a
// capability and a token that no other process gets by it.
func TestNetworkPolicy(t *testing.T) {
	objects := func(enabled bool) map[string]string {
		c, err := load(filepath.Join(tree, "chart"))
		if err != nil {
			t.Fatal(err)
		}
		if err := c.set("networkPolicy", "enabled", enabled); err != nil {
			t.Fatal(err)
		}
		docs, err := c.render("onlink")
		if err != nil {
			t.Fatal(err)
		}
		out := map[string]string{}
		for _, d := range docs {
			name := regexp.MustCompile(`(?m)^  name: (.*)$`).FindStringSubmatch(d.text)
			out[d.kind+" "+name[1]] = d.text
		}
		return out
	}
	without, with := objects(false), objects(true)
	var added []string
	for name, text := range with {
		switch was, has := without[name]; {
		case !has:
			added = append(added, name)
		case text != was && name != "Deployment onlink-controller" && name != "Role onlink-controller": // --policy-daemonset, and the right to read it
			t.Errorf("%s changes with networkPolicy.enabled", name)
		}
	}
	slices.Sort(added)
	want := []string{"ClusterRole onlink-policy", "ClusterRoleBinding onlink-policy", "DaemonSet onlink-policy", "ServiceAccount onlink-policy"}
	if diff := cmp.Diff(want, added); diff != "" {
		t.Errorf("objects of networkPolicy.enabled (-want +got):\n%s", diff)
	}
	if set := with["DaemonSet onlink-policy"]; !strings.Contains(set, "capabilities: {drop: [ALL], add: [NET_ADMIN]}") || strings.Contains(set, "hostPath") {
		t.Errorf("onlink-policy has more than NET_ADMIN:\n%s", set)
	}
}

// TestValues: what a value changes.
func TestValues(t *testing.T) {
	const controller = "Deployment onlink-controller"
	for _, tt := range []struct {
		section, key string
		value        any
		object       string
		want         []string
	}{
		{"node", "nodeSelector", map[string]any{"network": "onlink", "kubernetes.io/os": "linux"}, controller, []string{`- "--node-selector=network=onlink"`, `- "--node-selector=kubernetes.io/os=linux"`}},
		{"controller", "taintNewNodes", false, controller, []string{"- --taint-new-nodes=false"}},
		{"networkPolicy", "enforcedByOther", true, controller, []string{"- --policy-enforced"}},
		{"image", "pullSecrets", []any{map[string]any{"name": "registry"}}, controller, []string{`imagePullSecrets: [{"name":"registry"}]`}},
		{"image", "pullSecrets", []any{map[string]any{"name": "registry"}}, "DaemonSet onlink-node", []string{`imagePullSecrets: [{"name":"registry"}]`}},
	} {
		t.Run(tt.section+"."+tt.key, func(t *testing.T) {
			c, err := load(filepath.Join(tree, "chart"))
			if err != nil {
				t.Fatal(err)
			}
			before := one(t, c, tt.object)
			if err := c.set(tt.section, tt.key, tt.value); err != nil {
				t.Fatal(err)
			}
			after := one(t, c, tt.object)
			for _, want := range tt.want {
				if !strings.Contains(after, want) {
					t.Errorf("%s has no %s:\n%s", tt.object, want, after)
				}
			}
			if before == after {
				t.Error("the value changes nothing")
			}
		})
	}
}

// TestFirstCNI: the section cni of the first OnlinkConfig joins the folders of the
// mounts: two sections are no YAML, of which the controller would make no object.
func TestFirstCNI(t *testing.T) {
	c, err := load(filepath.Join(tree, "chart"))
	if err != nil {
		t.Fatal(err)
	}
	if err := c.set("first", "config", map[string]any{"asn": 4200000000, "cni": map[string]any{"binDir": "/elsewhere", "sysctls": []string{"net.core.somaxconn"}}}); err != nil {
		t.Fatal(err)
	}
	var m struct{ Data map[string]string }
	if err := yaml.Unmarshal([]byte(one(t, c, "ConfigMap onlink-defaults")), &m); err != nil {
		t.Fatal(err)
	}
	text, _, _ := strings.Cut(m.Data["defaults.yaml"], "\n---\n")
	var o struct {
		Spec struct {
			ASN int64
			CNI struct {
				BinDir, ConfDir string
				Sysctls         []string
			}
		}
		Metadata         struct{ Name string }
		Kind, APIVersion string
	}
	if err := yaml.UnmarshalStrict([]byte(text), &o); err != nil {
		t.Fatalf("%v in:\n%s", err, text)
	}
	want := o.Spec
	want.ASN, want.CNI.BinDir, want.CNI.ConfDir, want.CNI.Sysctls = 4200000000, "/opt/cni/bin", "/etc/cni/net.d", []string{"net.core.somaxconn"}
	if diff := cmp.Diff(want, o.Spec); diff != "" {
		t.Errorf("spec (-want +got):\n%s", diff)
	}
}

// one returns an object of the rendering.
func one(t *testing.T, c *chart, object string) string {
	t.Helper()
	docs, err := c.render("onlink")
	if err != nil {
		t.Fatal(err)
	}
	for _, d := range docs {
		if kind, name, _ := strings.Cut(object, " "); d.kind == kind && strings.Contains(d.text, "\n  name: "+name+"\n") {
			return d.text
		}
	}
	t.Fatalf("the chart has no %s", object)
	return ""
}

// TestChart renders small charts.
func TestChart(t *testing.T) {
	for _, tt := range []struct {
		name, template, want, err string
	}{
		{
			"values and functions", "kind: ConfigMap\ndata:\n  a: {{ .Values.a.text | quote }}\n  b: {{ toJson .Values.a.list }}\n  c:\n    {{- toYaml .Values.a | nindent 4 }}\n  d: {{ include \"d\" . }}\n",
			"ConfigMap kind: ConfigMap\ndata:\n  a: \"x\"\n  b: [1,2]\n  c:\n    list:\n    - 1\n    - 2\n    text: x\n  d: ns", "",
		},
		{"order", "kind: DaemonSet\n---\nkind: Namespace\n", "Namespace kind: Namespace\nDaemonSet kind: DaemonSet", ""},
		{"no object", "{{ if false }}kind: Namespace{{ end }}\n---\n", "", ""},
		{"a border inside a text", "kind: ConfigMap\ndata:\n  a: |\n    x\n    ---\n    y\n", "ConfigMap kind: ConfigMap\ndata:\n  a: |\n    x\n    ---\n    y", ""},
		{"files", "{{ range $n, $_ := .Files.Glob \"files/*\" }}{{ $.Files.Get $n }}{{ end }}", "Role kind: Role", ""},
		{"an unknown function", "kind: {{ lookup }}\n", "", `function "lookup" not defined`},
		{"a missing value", "kind: {{ .Values.none.x }}\n", "", "none"},
		{"another kind", "kind: Pod\n", "", `kind "Pod" has no place`},
		{"not YAML", "kind: [\n", "", "kind: ["},
	} {
		t.Run(tt.name, func(t *testing.T) {
			dir := t.TempDir()
			for name, text := range map[string]string{
				"Chart.yaml": "name: x\n", "values.yaml": "a: {text: x, list: [1, 2]}\n", "files/r.yaml": "kind: Role\n",
				"templates/x.yaml": tt.template, "templates/_d.tpl": `{{ define "d" }}{{ .Release.Namespace }}{{ end }}`,
			} {
				f := filepath.Join(dir, name)
				if err := os.MkdirAll(filepath.Dir(f), 0o700); err != nil {
					t.Fatal(err)
				}
				if err := os.WriteFile(f, []byte(text), 0o600); err != nil {
					t.Fatal(err)
				}
			}
			c, err := load(dir)
			if err != nil {
				t.Fatal(err)
			}
			docs, err := c.render("ns")
			if tt.err != "" {
				if err == nil || !strings.Contains(err.Error(), tt.err) {
					t.Errorf("error %v, want %q in it", err, tt.err)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			var got []string
			for _, d := range docs {
				got = append(got, d.kind+" "+d.text)
			}
			if diff := cmp.Diff(tt.want, strings.Join(got, "\n")); diff != "" {
				t.Errorf("rendering (-want +got):\n%s", diff)
			}
		})
	}
}
