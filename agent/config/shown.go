package config

import (
	"maps"
	"path/filepath"
	"reflect"
	"regexp"
	"slices"
	"strings"

	"onlink/internal/strictyaml"
)

// This file tells the values of a configuration that others than its operator may see. A
// file has no secret itself: it names the files that have them.

// secretKey matches the names of keys that a file with a secret has, and those that one
// would give to a secret which stands in the configuration by mistake.
var secretKey = regexp.MustCompile(`(?i)(passw|passphrase|secret|token|^key$|keyFile)`)

// Secrets are those of a configuration file.
type Secrets struct {
	Files  []string // that it names
	Values []string // that stand, by mistake, where the name of a file belongs
}

// Shown returns the text of a configuration file for others than its operator: values of
// keys that no configuration has, and comments, are replaced or left out. The text may
// have mistakes.
func Shown(text []byte, removed string) (out []byte, found Secrets, err error) {
	keys := map[string]bool{}
	for _, k := range strictyaml.Keys(func(v strictyaml.Value) { readConfig(v, Default()) }) {
		keys[k] = true
	}
	out, err = strictyaml.Shown(text, removed, func(path, value string) bool {
		if value != "" && secretKey.MatchString(path[strings.LastIndexByte(path, '.')+1:]) {
			if !filepath.IsAbs(value) {
				found.Values = append(found.Values, value)
				return false
			}
			found.Files = append(found.Files, value)
		}
		if rest, ok := strings.CutPrefix(path, "bgp.groups."); ok { // NAME, which is free, and a peer's keys
			_, key, _ := strings.Cut(rest, ".")
			return key == "" || keys["bgp.peers[]."+key] || free(path)
		}
		return keys[path] || free(path)
	})
	return out, found, err
}

// freeKeys have keys of their own: labels of the operator, and the types of chained
// plugins, whose other settings may be secret.
var freeKeys = regexp.MustCompile(`^(node\.labels|(.*\.)?nodeSelector)\.|^cni\.install\.plugins\[\]\.type$`)

func free(path string) bool { return freeKeys.MatchString(path) }

// SecretFiles returns the files with secrets that a configuration names: those of
// passwords, private keys, and all that were sent with it.
func (c *Config) SecretFiles() []string {
	found := map[string]bool{}
	findSecrets(reflect.ValueOf(*c), "", func(s string) { found[s] = true })
	sent, err := filepath.Glob(filepath.Join(c.Paths.State, "keys", "*"))
	if err == nil {
		for _, s := range sent {
			found[s] = true
		}
	}
	return slices.Sorted(maps.Keys(found))
}

// findSecrets calls each with the value of every field whose name is that of a secret's
// file.
func findSecrets(v reflect.Value, name string, each func(string)) {
	switch v.Kind() { //nolint:exhaustive // the others have no strings
	case reflect.String:
		if v.Len() > 0 && secretKey.MatchString(name) {
			each(v.String())
		}
	case reflect.Pointer:
		if !v.IsNil() {
			findSecrets(v.Elem(), name, each)
		}
	case reflect.Slice:
		for i := range v.Len() {
			findSecrets(v.Index(i), name, each)
		}
	case reflect.Struct:
		for i := range v.NumField() {
			if f := v.Type().Field(i); f.IsExported() {
				findSecrets(v.Field(i), f.Name, each)
			}
		}
	}
}
