package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"text/template"

	"sigs.k8s.io/yaml"
)

// chart is a Helm chart without dependencies.
type chart struct {
	dir    string
	values map[string]any
	about  map[string]any // Chart.yaml
}

// doc is one object of the rendering.
type doc struct{ kind, text string }

// order is that of the kinds in the rendering: what others need comes first.
var order = []string{
	"Namespace", "CustomResourceDefinition", "ServiceAccount", "ConfigMap", "ClusterRole", "ClusterRoleBinding", "Role", "RoleBinding",
	"ValidatingAdmissionPolicy", "ValidatingAdmissionPolicyBinding", "DaemonSet", "Deployment",
}

func load(dir string) (*chart, error) {
	c := &chart{dir: dir}
	for name, to := range map[string]*map[string]any{"values.yaml": &c.values, "Chart.yaml": &c.about} {
		text, err := os.ReadFile(filepath.Join(dir, name))
		if err != nil {
			return nil, err
		}
		if err := yaml.UnmarshalStrict(text, to); err != nil {
			return nil, fmt.Errorf("read %s: %w", name, err)
		}
	}
	return c, nil
}

// set is helm's --set section.key=value.
func (c *chart) set(section, key string, value any) error {
	s, ok := c.values[section].(map[string]any)
	if !ok {
		return fmt.Errorf("values.yaml has no section %s", section)
	}
	if _, ok := s[key]; !ok {
		return fmt.Errorf("values.yaml has no %s.%s", section, key)
	}
	s[key] = value
	return nil
}

// render returns the objects in the order of their kinds.
func (c *chart) render(namespace string) ([]doc, error) {
	all := template.New("chart").Option("missingkey=error")
	all.Funcs(c.funcs(all))
	files, err := filepath.Glob(filepath.Join(c.dir, "templates", "*"))
	if err != nil {
		return nil, err
	}
	if len(files) == 0 {
		return nil, fmt.Errorf("find templates in %s: there is none", c.dir)
	}
	for _, f := range files {
		text, err := os.ReadFile(f)
		if err != nil {
			return nil, err
		}
		if _, err := all.New(filepath.Base(f)).Parse(string(text)); err != nil {
			return nil, fmt.Errorf("read template: %w", err)
		}
	}
	input := map[string]any{
		"Values": c.values, "Chart": c.about, "Files": chartFiles{c.dir},
		"Release": map[string]any{"Name": namespace, "Namespace": namespace},
	}
	var out []doc
	for _, f := range files {
		if filepath.Ext(f) != ".yaml" {
			continue // definitions
		}
		var text strings.Builder
		if err := all.ExecuteTemplate(&text, filepath.Base(f), input); err != nil {
			return nil, fmt.Errorf("render: %w", err)
		}
		docs, err := split(text.String())
		if err != nil {
			return nil, fmt.Errorf("render %s: %w", filepath.Base(f), err)
		}
		out = append(out, docs...)
	}
	slices.SortStableFunc(out, func(a, b doc) int { return slices.Index(order, a.kind) - slices.Index(order, b.kind) })
	return out, nil
}

// funcs are the functions of Helm that the chart may use.
func (c *chart) funcs(all *template.Template) template.FuncMap {
	return template.FuncMap{
		"include": func(name string, data any) (string, error) {
			var out strings.Builder
			err := all.ExecuteTemplate(&out, name, data)
			return out.String(), err
		},
		"quote": func(v any) string { return strconv.Quote(fmt.Sprint(v)) },
		"nindent": func(n int, text string) string {
			pad := "\n" + strings.Repeat(" ", n)
			return pad + strings.ReplaceAll(text, "\n", pad)
		},
		"toYaml": func(v any) (string, error) {
			text, err := yaml.Marshal(v)
			return strings.TrimSuffix(string(text), "\n"), err
		},
		"toJson": func(v any) (string, error) {
			text, err := json.Marshal(v)
			return string(text), err
		},
	}
}

// chartFiles is Helm's .Files.
type chartFiles struct{ dir string }

// Glob returns the names of the files that match, relative to the chart.
func (f chartFiles) Glob(pattern string) (map[string]string, error) {
	match, err := filepath.Glob(filepath.Join(f.dir, pattern))
	out := map[string]string{}
	for _, m := range match {
		name, rel := filepath.Rel(f.dir, m)
		out[name], err = "", errors.Join(err, rel)
	}
	return out, err
}

// Get returns the text of a file.
func (f chartFiles) Get(name string) (string, error) {
	text, err := os.ReadFile(filepath.Join(f.dir, name))
	return string(text), err
}

var border = regexp.MustCompile(`(?m)^---[ \t]*$`)

// split returns the documents of a text that have an object.
func split(text string) ([]doc, error) {
	var out []doc
	for _, part := range border.Split(text, -1) {
		var o struct {
			Kind string `json:"kind"`
		}
		if err := yaml.Unmarshal([]byte(part), &o); err != nil {
			return nil, fmt.Errorf("%w in:\n%s", err, part)
		}
		if strings.TrimSpace(part) == "" {
			continue
		}
		if !slices.Contains(order, o.Kind) {
			return nil, fmt.Errorf("kind %q has no place in the order of the rendering:\n%s", o.Kind, part)
		}
		out = append(out, doc{o.Kind, strings.Trim(part, "\n")})
	}
	return out, nil
}
