package cni

import (
	"cmp"
	"fmt"
	"maps"
	"path"
	"slices"
	"strings"

	"onlink/cni/pod"
)

// annotationSysctls holds a pod's extra sysctls: name=value, divided by
// semicolons, because values have commas.
const annotationSysctls = "onlink.io/sysctls"

// readSysctls collects the extra sysctls: those of the configuration, and of
// the pod's annotation, which wins.
func (r *request) readSysctls() error {
	all := map[string]pod.Sysctl{}
	for name, value := range r.conf.Sysctls {
		all[name] = pod.Sysctl{Field: "sysctls", Name: name, Value: value}
	}
	for pair := range strings.SplitSeq(r.conf.RuntimeConfig.Annotations[annotationSysctls], ";") {
		if pair = strings.TrimSpace(pair); pair == "" {
			continue
		}
		name, value, ok := strings.Cut(pair, "=")
		if !ok {
			return fmt.Errorf("%w: annotation %s: %q is not name=value", ErrConfig, annotationSysctls, pair)
		}
		name = strings.TrimSpace(name)
		all[name] = pod.Sysctl{Field: "annotation " + annotationSysctls, Name: name, Value: strings.TrimSpace(value)}
	}
	for _, s := range all {
		if err := checkSysctl(s); err != nil {
			return err
		}
	}
	r.sysctls = slices.SortedFunc(maps.Values(all), func(a, b pod.Sysctl) int { return cmp.Compare(a.Name, b.Name) })
	return nil
}

// checkSysctl refuses a text that is not the name of a network sysctl, so that it
// cannot lead out of /proc/sys/net.
func checkSysctl(s pod.Sysctl) error {
	parts := strings.Split(s.Name, ".")
	known := len(parts) > 2 && parts[0] == "net" && !slices.Contains(parts, "")
	odd := func(c rune) bool {
		return (c < 'a' || c > 'z') && (c < 'A' || c > 'Z') && (c < '0' || c > '9') && c != '_' && c != '-' && c != '.'
	}
	if !known || strings.ContainsFunc(s.Name, odd) {
		return fmt.Errorf("%w: %s: %q is not the name of a network sysctl, such as net.ipv4.tcp_rmem", ErrConfig, s.Field, s.Name)
	}
	if s.Value == "" || strings.ContainsAny(s.Value, "\n\x00") {
		return fmt.Errorf("%w: %s: %s: %q is not a value", ErrConfig, s.Field, s.Name, s.Value)
	}
	return nil
}

// permitted refuses sysctls that no pattern of the allow list matches.
func permitted(list []pod.Sysctl, allowed []string) error {
	for _, s := range list {
		if !slices.ContainsFunc(allowed, func(pattern string) bool { ok, _ := path.Match(pattern, s.Name); return ok }) {
			return fmt.Errorf("%w: %s: %s is not in the agent's cni.sysctls", ErrConfig, s.Field, s.Name)
		}
	}
	return nil
}
