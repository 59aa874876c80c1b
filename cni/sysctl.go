package cni

import (
	"cmp"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"path"
	"slices"
	"strings"

	"onlink/sysctl"
)

// annotationSysctls holds a pod's extra sysctls: name=value, divided by
// semicolons, because values have commas.
const annotationSysctls = "onlink.io/sysctls"

// sysctlIfName stands for the pod's interface in the name of a sysctl.
const sysctlIfName = "IFNAME"

// podSysctl is one setting of a pod's network namespace beyond what onlink sets.
type podSysctl struct {
	field string // where it was asked for
	name  string // with dots
	value string
}

// readSysctls collects the extra sysctls: those of the configuration, and of
// the pod's annotation, which wins.
func (r *request) readSysctls() error {
	all := map[string]podSysctl{}
	for name, value := range r.conf.Sysctls {
		all[name] = podSysctl{field: "sysctls", name: name, value: value}
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
		all[name] = podSysctl{field: "annotation " + annotationSysctls, name: name, value: strings.TrimSpace(value)}
	}
	for _, s := range all {
		if err := s.check(); err != nil {
			return err
		}
	}
	r.sysctls = slices.SortedFunc(maps.Values(all), func(a, b podSysctl) int { return cmp.Compare(a.name, b.name) })
	return nil
}

// check refuses what is no name of a network sysctl, so that it cannot lead
// out of /proc/sys/net.
func (s podSysctl) check() error {
	parts := strings.Split(s.name, ".")
	known := len(parts) > 2 && parts[0] == "net" && !slices.Contains(parts, "")
	odd := func(c rune) bool {
		return (c < 'a' || c > 'z') && (c < 'A' || c > 'Z') && (c < '0' || c > '9') && c != '_' && c != '-' && c != '.'
	}
	if !known || strings.ContainsFunc(s.name, odd) {
		return fmt.Errorf("%w: %s: %q is not the name of a network sysctl, such as net.ipv4.tcp_rmem", ErrConfig, s.field, s.name)
	}
	if s.value == "" || strings.ContainsAny(s.value, "\n\x00") {
		return fmt.Errorf("%w: %s: %s: %q is not a value", ErrConfig, s.field, s.name, s.value)
	}
	return nil
}

// permitted refuses sysctls that no pattern of the allow list matches.
func permitted(list []podSysctl, allowed []string) error {
	for _, s := range list {
		if !slices.ContainsFunc(allowed, func(pattern string) bool { ok, _ := path.Match(pattern, s.name); return ok }) {
			return fmt.Errorf("%w: %s: %s is not in the agent's cni.sysctls", ErrConfig, s.field, s.name)
		}
	}
	return nil
}

// path returns the setting's name for package sysctl, for a pod's interface.
func (s podSysctl) path(ifName string) string {
	parts := strings.Split(s.name, ".")
	for i, p := range parts {
		if p == sysctlIfName {
			parts[i] = ifName
		}
	}
	return strings.Join(parts, "/")
}

// setSysctls applies the extra sysctls to the current namespace, a pod's.
func (w *wiring) setSysctls() error {
	for _, s := range w.sysctls {
		err := sysctl.Write(s.path(w.attachment.IfName), s.value)
		switch {
		case err == nil:
		case errors.Is(err, sysctl.ErrReadOnly): // no fault of the pod's
			return err //nolint:wrapcheck // it names the setting
		case errors.Is(err, fs.ErrNotExist):
			return fmt.Errorf("%w: %s: a pod has no %s on this kernel", ErrConfig, s.field, s.name)
		default:
			return fmt.Errorf("%w: %s: the kernel refuses %s = %s: %w", ErrConfig, s.field, s.name, s.value, err)
		}
	}
	return nil
}

// checkSysctls compares the extra sysctls with the current namespace.
func (w *wiring) checkSysctls(r *report) {
	for _, s := range w.sysctls {
		have, err := sysctl.Read(s.path(w.attachment.IfName))
		if err != nil {
			r.add("sysctl %s: %v", s.name, err)
			continue
		}
		// The kernel divides several numbers by tabs.
		if got := strings.Fields(have); !slices.Equal(got, strings.Fields(s.value)) {
			r.add("sysctl %s is %s, want %s", s.name, strings.Join(got, " "), s.value)
		}
	}
}

// repeatSysctls applies the extra sysctls to a pod that is wired already.
func (w *wiring) repeatSysctls(th *thread) error {
	if len(w.sysctls) == 0 {
		return nil
	}
	if err := th.enter(w.netns); err != nil {
		return err
	}
	err := w.setSysctls()
	if lost := th.leave(); lost != nil {
		return lost
	}
	return err
}
