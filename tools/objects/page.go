package main

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
)

const head = `# Kubernetes objects

Made by ` + "`make generate`" + ` from the comments in kube/api/v1alpha1; edit those. ` + "`kubectl explain`" + `
prints the same. [kubernetes.md](../kubernetes.md) has examples.
`

// standard are types of Kubernetes' own, documented there: their fields are not listed.
var standard = map[string]string{
	"conditions":        "conditions",
	"nodeSelector":      "label selector",
	"namespaceSelector": "label selector",
	"serviceSelector":   "label selector",
}

// writer makes the page.
type writer struct {
	strings.Builder

	missing []error
}

// page returns the page, or every field without a description.
func page(dir string) (string, error) {
	all, err := load(dir)
	if err != nil {
		return "", err
	}
	w := new(writer)
	w.WriteString(head)
	for _, c := range all {
		w.object(c)
	}
	return w.String(), errors.Join(w.missing...)
}

func (w *writer) object(c crd) {
	v := c.Spec.Versions[0]
	root := v.Schema.OpenAPIV3Schema
	fmt.Fprintf(w, "\n## %s\n\n%s\n\n", c.Spec.Names.Kind, oneLine(root.Description))
	fmt.Fprintf(w, "`%s/%s`, resource `%s`", c.Spec.Group, v.Name, c.Spec.Names.Plural)
	if len(c.Spec.Names.ShortNames) > 0 {
		fmt.Fprintf(w, " (short `%s`)", strings.Join(c.Spec.Names.ShortNames, "`, `"))
	}
	w.WriteString(".\n")
	w.rules(root.Rules)
	for _, part := range []string{"spec", "status"} {
		s, has := root.Properties[part]
		if !has {
			continue
		}
		fmt.Fprintf(w, "\n| `%s` | type | meaning |\n|---|---|---|\n", part)
		path := c.Spec.Names.Kind + "." + part
		w.fields(path, "", s)
		w.rules(s.Rules)
	}
}

// fields writes one row for each field of s and of what is inside.
func (w *writer) fields(path, prefix string, s schema) {
	for _, name := range slices.Sorted(maps.Keys(s.Properties)) {
		f := s.Properties[name]
		inside, kind := f, f.kind()
		switch {
		case f.Items != nil:
			kind, inside = "list of "+f.Items.kind(), *f.Items
		case f.AdditionalProperties != nil:
			kind = "map"
		}
		own, isStandard := standard[name]
		if isStandard {
			kind = own
		}
		text := oneLine(f.Description)
		if name == "conditions" {
			text = "Type, status, reason and message of each."
		}
		if text == "" {
			text = oneLine(inside.Description)
		}
		if text == "" {
			w.missing = append(w.missing, fmt.Errorf("field %s.%s%s has no description: comment it in kube/api/v1alpha1", path, prefix, name))
		}
		fmt.Fprintf(w, "| `%s%s` | %s | %s |\n", prefix, name, kind, cell(text+f.limits(slices.Contains(s.Required, name))))
		if isStandard {
			continue
		}
		next := prefix + name + "."
		if f.Items != nil {
			next = prefix + name + "[]."
		}
		w.fields(path, next, inside)
	}
}

func (w *writer) rules(rules []rule) {
	for _, r := range rules {
		fmt.Fprintf(w, "\nRule: %s.\n", strings.TrimSuffix(r.Message, "."))
	}
}

func (s schema) kind() string {
	switch {
	case len(s.Enum) > 0:
		var values []string
		for _, e := range s.Enum {
			values = append(values, "`"+unquote(string(e))+"`")
		}
		return strings.Join(values, ", ")
	case s.Format == "date-time":
		return "time"
	}
	return s.Type
}

// limits returns what bounds a field, as text behind its description.
func (s schema) limits(required bool) string {
	var out []string
	if required {
		out = append(out, "required")
	}
	if len(s.Default) > 0 && s.Type != "object" {
		out = append(out, "default `"+unquote(string(s.Default))+"`")
	}
	switch {
	case s.Minimum != nil && s.Maximum != nil:
		out = append(out, fmt.Sprintf("%d to %d", *s.Minimum, *s.Maximum))
	case s.Minimum != nil:
		out = append(out, fmt.Sprintf("at least %d", *s.Minimum))
	case s.Maximum != nil:
		out = append(out, fmt.Sprintf("at most %d", *s.Maximum))
	}
	if s.MaxItems != nil {
		out = append(out, fmt.Sprintf("at most %d entries", *s.MaxItems))
	}
	for _, r := range s.Rules {
		if s.Type != "string" {
			out = append(out, r.Message)
		}
	}
	if len(out) == 0 {
		return ""
	}
	return " (" + strings.Join(out, "; ") + ")"
}

func unquote(text string) string {
	if s, err := strconv.Unquote(text); err == nil {
		return s
	}
	return text
}

func oneLine(text string) string { return strings.Join(strings.Fields(text), " ") }

func cell(text string) string { return strings.ReplaceAll(text, "|", "\\|") }
