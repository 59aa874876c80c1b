package cni

import (
	"fmt"
	"os"
	"strings"
	"testing"
)

// TestSysctls sets sysctls in both places, allowed ones and others.
func TestSysctls(t *testing.T) {
	annotations := func(text string) map[string]any {
		return map[string]any{"runtimeConfig": map[string]any{
			"io.kubernetes.cri.pod-annotations": map[string]string{annotationSysctls: text},
		}}
	}
	tests := []struct {
		name string
		conf map[string]any
		want map[string]string // file below /proc/sys/net: contents
		code uint              // 0: ADD succeeds
		says string
	}{
		{name: "configuration", conf: map[string]any{"sysctls": map[string]string{
			"net.ipv4.tcp_rmem": "4096 65536  131072", "net.core.somaxconn": "500", "net.ipv4.conf.IFNAME.arp_notify": "1",
		}}, want: map[string]string{"ipv4/tcp_rmem": "4096\t65536\t131072", "core/somaxconn": "500", "ipv4/conf/eth0/arp_notify": "1"}},
		{
			name: "annotation", conf: annotations(" net.ipv4.ip_local_reserved_ports = 80,90-99 ;; net.core.somaxconn=7"),
			want: map[string]string{"ipv4/ip_local_reserved_ports": "80,90-99", "core/somaxconn": "7"},
		},
		{
			name: "configuration not allowed", conf: map[string]any{"sysctls": map[string]string{"net.ipv4.ip_forward": "1"}},
			code: 7, says: "sysctls: net.ipv4.ip_forward is not in the agent's cni.sysctls",
		},
		{
			name: "annotation not allowed", conf: annotations("net.ipv4.conf.all.rp_filter=0"),
			code: 7, says: "annotation onlink.io/sysctls: net.ipv4.conf.all.rp_filter is not in the agent's cni.sysctls",
		},
		{
			name: "not of the network", conf: annotations("kernel.core_pattern=|/bin/sh"),
			code: 7, says: `annotation onlink.io/sysctls: "kernel.core_pattern" is not the name of a network sysctl`,
		},
		{name: "out of the folder", conf: annotations("net.ipv4.tcp_../../kernel=1"), code: 7, says: "is not the name of a network sysctl"},
		{name: "empty part", conf: annotations("net..tcp_rmem=1"), code: 7, says: "is not the name of a network sysctl"},
		{name: "no value", conf: annotations("net.ipv4.tcp_rmem"), code: 7, says: "is not name=value"},
		{name: "unknown to the kernel", conf: annotations("net.ipv4.tcp_nothing=1"), code: 7, says: "a pod has no net.ipv4.tcp_nothing on this kernel"},
		{
			name: "value the kernel refuses", conf: map[string]any{"sysctls": map[string]string{"net.ipv4.tcp_rmem": "many"}},
			code: 7, says: "sysctls: the kernel refuses net.ipv4.tcp_rmem = many",
		},
		{name: "wrong type", conf: map[string]any{"sysctls": map[string]any{"net.core.somaxconn": 500}}, code: 7, says: "sysctls"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			n, pod := newNode(t), newSpace(t)
			n.sysctls = []string{"net.core.somaxconn", "net.ipv4.tcp_*", "net.ipv4.ip_local_reserved_ports", "net.ipv4.conf.IFNAME.arp_notify"}
			n.stop()
			n.start()
			c := add(pod)
			c.conf = tt.conf
			if tt.code != 0 {
				if o := n.fails(c, tt.code); !strings.Contains(o.Details, tt.says) {
					t.Errorf("ADD says %q, want %q", o.Details, tt.says)
				}
				n.clean()
				return
			}
			check := c.as("CHECK")
			check.conf = withPrev(t, tt.conf, n.ok(c))
			n.ok(check)
			pod.do(t, func() error { return has(tt.want) })
			pod.do(t, func() error { return os.WriteFile("/proc/sys/net/core/somaxconn", []byte("9"), 0) })
			if o := n.fails(check, 100); !strings.Contains(o.Details, "sysctl net.core.somaxconn is 9, want "+tt.want["core/somaxconn"]) {
				t.Errorf("CHECK says %q", o.Details)
			}
			n.ok(c) // again
			n.ok(check)
		})
	}
}

// has compares settings of the current namespace.
func has(want map[string]string) error {
	for file, value := range want {
		have, err := os.ReadFile("/proc/sys/net/" + file)
		if err != nil || strings.TrimSpace(string(have)) != value {
			return fmt.Errorf("%s is %q, want %q: %w", file, have, value, err)
		}
	}
	return nil
}
