package cni

import (
	"path"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"

	"onlink/internal/strictyaml"
)

// TestSettings: the section's values and mistakes. The mistakes of the section
// in a whole file are those of agent/config.
func TestSettings(t *testing.T) {
	t.Parallel()
	const (
		noConfDir = "is missing; a runtime needs both the plugin (usually binDir: /opt/cni/bin) and its configuration (usually confDir: /etc/cni/net.d)"
		programs  = "the name of the plugin's program, such as portmap, bandwidth, tuning or firewall"
	)
	for _, c := range []struct {
		text string
		want Settings
		err  string
	}{
		{"", Settings{Sysctls: safeSysctls}, ""},
		{"{socket: /run/x.sock, sysctls: []}", Settings{Socket: "/run/x.sock"}, ""},
		{"{sysctls: [net.core.somaxconn, 'net.ipv4.tcp_*']}", Settings{Sysctls: []string{"net.core.somaxconn", "net.ipv4.tcp_*"}}, ""},
		{
			"{install: {binDir: /b, confDir: /c, plugins: [portmap, {type: tuning, mtu: 1400}]}}",
			Settings{Sysctls: safeSysctls, Install: InstallSettings{BinDir: "/b", ConfDir: "/c", Plugins: []Chained{{"type": "portmap"}, {"type": "tuning", "mtu": 1400}}}},
			"",
		},
		{"{install: {binDir: /b, confDir: /c, plugins: []}}", Settings{Sysctls: safeSysctls, Install: InstallSettings{BinDir: "/b", ConfDir: "/c", Plugins: []Chained{}}}, ""},
		{"{install: {binDir: /b}}", Settings{}, "f:1: cni.install.confDir: " + noConfDir},
		{"{install: {plugin: /p, binDir: b, confDir: /c}}", Settings{}, `f:1: cni.install.binDir: "b" is not an absolute path; begin it with "/"`},
		{"{install: {binDir: /b, confDir: /c, plugins: [{mtu: 1}]}}", Settings{}, "f:1: cni.install.plugins[0]: has no key type; add " + programs},
		{"{sysctls: [net.a, kernel.x]}", Settings{}, `f:1: cni.sysctls[1]: "kernel.x" is not a network sysctl; use its name with dots, such as net.ipv4.tcp_rmem, and * and ?`},
	} {
		t.Run(c.text, func(t *testing.T) {
			t.Parallel()
			s := DefaultSettings()
			d := strictyaml.Parse("f", []byte("cni: "+c.text), func(v strictyaml.Value) { v.Mapping(strictyaml.Fields{"cni": s.Read}) })
			s.Validate("cni", d)
			if err := d.Err(); c.err != "" {
				if err == nil || err.Error() != c.err {
					t.Errorf("got %v, want %s", err, c.err)
				}
				return
			} else if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(c.want, s); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
			if asks := len(c.want.Install.BinDir) > 0; s.Install.Enabled() != asks {
				t.Errorf("enabled %v, want %v", s.Install.Enabled(), asks)
			}
		})
	}
}

// TestDefaultSysctls: the sysctls that pods may set by default pass the check of
// a request, and a file that changes its list does not change the default.
func TestDefaultSysctls(t *testing.T) {
	t.Parallel()
	s := DefaultSettings()
	if len(s.Sysctls) == 0 || !slices.ContainsFunc(s.Sysctls, func(p string) bool { ok, err := path.Match(p, "net.ipv4.tcp_rmem"); return ok && err == nil }) {
		t.Errorf("pods may set %v", s.Sysctls)
	}
	s.Sysctls[0] = "net.changed"
	if DefaultSettings().Sysctls[0] == "net.changed" {
		t.Error("the default is shared")
	}
}
