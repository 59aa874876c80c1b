package main

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"

	"sigs.k8s.io/yaml"
)

// crd is what the page shows of a CustomResourceDefinition.
type crd struct {
	Spec struct {
		Group string
		Names struct {
			Kind       string
			Plural     string
			ShortNames []string
		}
		Scope    string
		Versions []struct {
			Name                     string
			AdditionalPrinterColumns []struct{ Name, JSONPath string }
			Schema                   struct {
				OpenAPIV3Schema schema
			}
		}
	}
}

// schema is a part of an OpenAPI schema.
type schema struct {
	Type, Format         string
	Description          string
	Default              json.RawMessage
	Enum                 []json.RawMessage
	Minimum, Maximum     *int64
	MaxLength, MaxItems  *int64
	Required             []string
	Properties           map[string]schema
	Items                *schema
	AdditionalProperties *schema
	Rules                []rule `json:"x-kubernetes-validations"`
}

// rule is a rule across fields.
type rule struct{ Rule, Message string }

// load reads the CRDs of a folder, by name of their files.
func load(dir string) ([]crd, error) {
	files, err := filepath.Glob(filepath.Join(dir, "*.yaml"))
	if err != nil {
		return nil, err
	}
	if len(files) == 0 {
		return nil, fmt.Errorf("find CRDs in %s: there is none; run make generate in the tree's folder", dir)
	}
	var out []crd
	for _, f := range files {
		text, err := os.ReadFile(f)
		if err != nil {
			return nil, err
		}
		var c crd
		if err := yaml.Unmarshal(text, &c); err != nil {
			return nil, fmt.Errorf("read %s: %w", f, err)
		}
		if len(c.Spec.Versions) == 0 {
			return nil, fmt.Errorf("read %s: the CRD has no version", f)
		}
		out = append(out, c)
	}
	return out, nil
}
