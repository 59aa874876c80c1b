package diags

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// cniKeys are the keys of CNI configurations whose values are shown: those of the
// specification and of the plugins that its project maintains. The value of any other
// key may be a secret of a plugin that nobody here knows.
var cniKeys = []string{
	"cniVersion", "cniVersions", "name", "type", "plugins", "disableCheck", "disableGC", "loadOnlyInlinedPlugins", "capabilities", "portMappings", "bandwidth", "ips", "mac", "aliases", "dns",
	"nameservers", "domain", "search", "options", "ipam", "ranges", "rangeStart", "rangeEnd", "subnet", "gateway", "routes", "dst", "gw", "mtu", "bridge", "isGateway",
	"isDefaultGateway", "forceAddress", "ipMasq", "ipMasqBackend", "hairpinMode", "promiscMode", "vlan", "vlanTrunk", "master", "mode", "device", "snat", "externalSetMarkChain", "markMasqBit", "conditionsV4",
	"conditionsV6", "masqAll", "backend", "socket", "sysctl", "ingressRate", "ingressBurst", "egressRate", "egressBurst", "dataDir", "resolvConf", "table", "vrfname",
}

// CNI returns the configurations in a folder of a container runtime, with the values
// that may be shown.
func CNI(dir string) Part {
	return Part{Name: "cni/configuration.txt", Write: func(ctx context.Context, w io.Writer) error {
		entries, err := os.ReadDir(dir)
		if err != nil {
			return err
		}
		var errs []error
		for _, e := range entries {
			if ext := filepath.Ext(e.Name()); e.IsDir() || ext != ".conf" && ext != ".conflist" && ext != ".json" {
				continue // may be credentials: Folder has its name
			}
			errs = append(errs, writeShown(w, filepath.Join(dir, e.Name())), ctx.Err())
		}
		return errors.Join(errs...)
	}}
}

// writeShown writes one configuration.
func writeShown(w io.Writer, name string) error {
	text, err := readFile(name)
	if err == nil {
		text, err = shownJSON(text)
	}
	if err != nil {
		return fmt.Errorf("%s: %w", name, err)
	}
	_, err = fmt.Fprintf(w, "==> %s\n%s\n", name, text)
	return err
}

// errNotJSON replaces the error of the parser, which may quote the text.
var errNotJSON = errors.New("it is no JSON, and is left out: what is secret in it is not known")

// shownJSON returns a configuration with the values that may be shown.
func shownJSON(text []byte) ([]byte, error) {
	var v any
	d := json.NewDecoder(bytes.NewReader(text))
	d.UseNumber()
	if d.Decode(&v) != nil {
		return nil, errNotJSON
	}
	return json.MarshalIndent(shown(v, true), "", "  ")
}

// shown returns a value without those of unknown keys. known: it is of a known key.
func shown(v any, known bool) any {
	switch v := v.(type) {
	case map[string]any:
		out := map[string]any{}
		for key, one := range v {
			out[key] = shown(one, known && (slices.Contains(cniKeys, key) || strings.HasPrefix(key, "net.")))
		}
		return out
	case []any:
		out := make([]any, len(v))
		for i := range v {
			out[i] = shown(v[i], known)
		}
		return out
	case bool, nil:
		return v
	}
	if !known {
		return Removed
	}
	return v
}
