package bed

import (
	"os"
	"path/filepath"

	"onlink/integration/uml"
)

// debianPackage is one package onlink's beds use.
type debianPackage struct {
	name string
	what string // for the reader of the installation's output
	// files: one of each inner list must exist, or the package is missing.
	files [][]string
	// service is a systemd unit that the package enables and we do not want.
	service string
}

var debianPackages = map[string]debianPackage{
	"user-mode-linux":             {name: "user-mode-linux", what: "a Linux kernel that runs as a process: the bed for ipip where the kernel has none", files: [][]string{{uml.Kernel}}},
	"kmod":                        {name: "kmod", what: "modprobe, for the modules of that kernel", files: [][]string{{"/usr/sbin/modprobe", "/sbin/modprobe"}}},
	"qemu-system-x86":             {name: "qemu-system-x86", what: "a virtual machine: the bed of make test-kernel", files: [][]string{{"/usr/bin/qemu-system-x86_64"}}},
	"bird2":                       {name: "bird2", what: "BIRD 2 routing daemon, the ToRs of the lab", files: [][]string{{"/usr/sbin/bird"}, {"/usr/sbin/birdc"}}, service: "bird.service"},
	"frr":                         {name: "frr", what: "FRRouting, the other kind of ToR", files: [][]string{{"/usr/lib/frr/bgpd"}, {"/usr/lib/frr/zebra"}}, service: "frr.service"},
	"exabgp":                      {name: "exabgp", what: "ExaBGP, another implementation of BGP to be held against", files: [][]string{{"/usr/sbin/exabgp"}}, service: "exabgp.service"},
	"gobgpd":                      {name: "gobgpd", what: "gobgpd, another one", files: [][]string{{"/usr/bin/gobgpd"}, {"/usr/bin/gobgp"}}, service: "gobgpd.service"},
	"iputils-ping":                {name: "iputils-ping", what: "ping(8), to try the paths of the lab", files: [][]string{{"/usr/bin/ping", "/bin/ping"}}},
	"iproute2":                    {name: "iproute2", what: "ip(8), to look at what the lab made", files: [][]string{{"/usr/sbin/ip", "/sbin/ip", "/bin/ip", "/usr/bin/ip"}}},
	"etcd-server":                 {name: "etcd-server", what: "etcd, one of the block registries", files: [][]string{{"/usr/bin/etcd"}}, service: "etcd.service"},
	"gcc":                         {name: "gcc", what: "C compiler, for the race detector and for user-mode Linux on processors with AMX", files: [][]string{{"/usr/bin/gcc", "/usr/local/bin/gcc", "/usr/bin/cc"}}},
	"containerd":                  {name: "containerd", what: "container runtime, which the tests run pods with", files: [][]string{{"/usr/bin/containerd"}, {"/usr/bin/ctr"}}, service: "containerd.service"},
	"runc":                        {name: "runc", what: "what containerd starts processes with", files: [][]string{{"/usr/sbin/runc", "/usr/bin/runc"}}},
	"iptables":                    {name: "iptables", what: "what the plugin portmap writes its rules with, and tests break paths with", files: [][]string{{"/usr/sbin/iptables"}}},
	"nftables":                    {name: "nftables", what: "nft(8), which kube-proxy writes its rules with, and tests break paths with", files: [][]string{{"/usr/sbin/nft"}}, service: "nftables.service"},
	"util-linux":                  {name: "util-linux", what: "nsenter, to run a command inside a node", files: [][]string{{"/usr/bin/nsenter"}}},
	"mount":                       {name: "mount", what: "mount(8), which kubelet mounts volumes with", files: [][]string{{"/bin/mount", "/usr/bin/mount"}}},
	"containernetworking-plugins": {name: "containernetworking-plugins", what: "the reference CNI plugins, which the tests chain and compare with", files: [][]string{{"/usr/lib/cni/portmap"}, {"/usr/lib/cni/ptp"}}},
	"systemd":                     {name: "systemd", what: "systemd-analyze, which reads onlinkd.service", files: [][]string{{"/usr/bin/systemd-analyze", "/bin/systemd-analyze"}}},
	"procps":                      {name: "procps", what: "kill(1), by which that unit reloads the agent", files: [][]string{{"/bin/kill", "/usr/bin/kill"}}},
	"prometheus":                  {name: "prometheus", what: "Prometheus and promtool, which scrape the lab and try the alert rules", files: [][]string{{"/usr/bin/prometheus"}, {"/usr/bin/promtool"}}, service: "prometheus.service"},
	"chromium-headless-shell":     {name: "chromium-headless-shell", what: "Chromium without a window, which opens the looking glass", files: [][]string{{"/usr/bin/chromium-headless-shell"}}},
	"fonts-dejavu-core":           {name: "fonts-dejavu-core", what: "letters for its screenshot", files: [][]string{{"/usr/share/fonts/truetype/dejavu/DejaVuSans.ttf"}}},
	"pmacct":                      {name: "pmacct", what: "pmbmpd, a collector of BMP, which decodes what agents send", files: [][]string{{"/usr/sbin/pmbmpd"}}, service: "pmacctd.service"},
	"libc6-dev":                   {name: "libc6-dev", what: "C headers, for the same", files: [][]string{{"/usr/include/stdio.h"}, {"/usr/lib/x86_64-linux-gnu/crt1.o", "/usr/lib/aarch64-linux-gnu/crt1.o", "/usr/lib64/crt1.o", "/usr/lib/crt1.o"}}},
}

// Need is a set of packages that something to be run depends on.
type Need string

// The needs which Install knows.
const (
	// NeedLab is the lab and the demo: ToRs, ping(8), nft(8), iptables(8), and a kernel
	// with ipip.
	NeedLab Need = "lab"
	// NeedBench is the peers of make bench.
	NeedBench Need = "bench"
	// NeedUML is user-mode Linux even where the kernel has ipip: the tests
	// test the runner itself.
	NeedUML Need = "uml"
	// NeedEtcd is etcd, which the tests of that block registry run.
	NeedEtcd Need = "etcd"
	// NeedFRR is the other kind of ToR: where it is missing, its tests would
	// not exist instead of being skipped.
	NeedFRR Need = "frr"
	// NeedInterop is every implementation of BGP that onlink is held against.
	NeedInterop Need = "interop"
	// NeedRace is the race detector.
	NeedRace Need = "race"
	// NeedQEMU is what make test-kernel boots Debian's kernel with.
	NeedQEMU Need = "qemu"
	// NeedRuntime is a container runtime, and what reads the unit of the
	// service: the tests do as kubelet and systemd do.
	NeedRuntime Need = "runtime"
	// NeedPrometheus is what reads the metrics, the dashboard's queries and the alert
	// rules.
	NeedPrometheus Need = "prometheus"
	// NeedBrowser is the browser of make test-glass.
	NeedBrowser Need = "browser"
	// NeedCollector is what collects BMP.
	NeedCollector Need = "collector"
	// NeedKube is what the nodes of the test cluster have beside Kubernetes' own
	// programs.
	NeedKube Need = "kube"
)

// packagesFor lists the packages of needs, each once, in a fixed order.
func packagesFor(needs []Need) []debianPackage {
	var want []string
	for _, need := range needs {
		switch need {
		case NeedLab:
			want = append(want, "iproute2", "iputils-ping", "bird2", "nftables", "iptables")
			if !uml.HasIPIP() {
				want = append(want, umlPackages()...)
			}
		case NeedBench:
			want = append(want, "iproute2", "bird2", "frr")
		case NeedUML:
			want = append(want, umlPackages()...)
		case NeedEtcd:
			want = append(want, "etcd-server")
		case NeedFRR:
			want = append(want, "frr")
		case NeedInterop:
			want = append(want, "iproute2", "bird2", "frr", "exabgp", "gobgpd")
		case NeedRace:
			want = append(want, "gcc", "libc6-dev")
		case NeedQEMU:
			want = append(want, "qemu-system-x86", "kmod", "iproute2")
		case NeedRuntime:
			want = append(want, "containerd", "runc", "containernetworking-plugins", "iptables", "systemd", "procps")
		case NeedPrometheus:
			want = append(want, "prometheus")
		case NeedBrowser:
			want = append(want, "chromium-headless-shell", "fonts-dejavu-core", "util-linux")
		case NeedCollector:
			want = append(want, "pmacct")
		case NeedKube:
			want = append(want, "containerd", "runc", "iproute2", "nftables", "iptables", "util-linux", "mount", "bird2")
		}
	}
	var list []debianPackage
	seen := map[string]bool{}
	for _, name := range want {
		if !seen[name] {
			seen[name] = true
			list = append(list, debianPackages[name])
		}
	}
	return list
}

func umlPackages() []string {
	names := []string{"user-mode-linux", "kmod"}
	if uml.NeedsCompiler() {
		names = append(names, "gcc", "libc6-dev")
	}
	return names
}

// missing returns the packages of which a file is not there below root ("/").
func missing(root string, list []debianPackage) []debianPackage {
	var absent []debianPackage
	for _, p := range list {
		for _, alternatives := range p.files {
			if !anyExists(root, alternatives) {
				absent = append(absent, p)
				break
			}
		}
	}
	return absent
}

func anyExists(root string, paths []string) bool {
	for _, path := range paths {
		if _, err := os.Stat(filepath.Join(root, path)); err == nil {
			return true
		}
	}
	return false
}
