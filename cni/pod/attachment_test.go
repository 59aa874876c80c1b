package pod

import "testing"

// testID is a container ID as containerd makes them.
const testID = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"

// TestNames pins the names that other rooms and restarted agents depend on.
func TestNames(t *testing.T) {
	if got, want := HostDevice("c", "eth0"), "onl4ae00ea5d4f"; got != want {
		t.Errorf("HostDevice = %q, want %q", got, want)
	}
	a := Attachment{ContainerID: testID, IfName: "eth0", Namespace: "default", Pod: "web 0\n"}
	if got, want := a.Alias(), "onlink default/web_0_ "+testID+" eth0"; got != want {
		t.Errorf("alias = %q, want %q", got, want)
	}
	back, ok := parseAlias(a.Alias(), HostDevice(testID, "eth0"))
	if !ok || back.Key() != a.Key() {
		t.Errorf("parseAlias = %v, %v", back, ok)
	}
	if _, ok := parseAlias(a.Alias(), HostDevice(testID, "eth1")); ok {
		t.Error("parseAlias takes another device's alias")
	}
	if mac := MAC(testID, "eth0"); mac[0]&3 != 2 {
		t.Errorf("MAC %s is not a local unicast address", mac)
	}
	if !NetnsGone("/run/netns/none") || !NetnsGone("/etc/hostname") || NetnsGone("/proc/self/ns/net") || NetnsGone("") {
		t.Error("NetnsGone is wrong about absent, plain, live or unknown paths")
	}
}
