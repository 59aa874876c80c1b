package labtest

import "onlink/integration/lab"

// Plugin is the configuration of a CNI plugin in a list, as in its JSON: the keys
// are the plugin's own.
type Plugin = map[string]any

// Onlink returns onlink's plugin on a node.
func Onlink(n *lab.Node) Plugin { return Plugin{"type": "onlink-cni", "socket": n.CNISocket()} }

// PortMap returns the reference plugin for hostPort; [MapPort] sets its argument.
func PortMap() Plugin {
	return Plugin{"type": "portmap", "snat": true, "capabilities": map[string]bool{"portMappings": true}}
}

// Bandwidth returns the reference plugin that shapes a pod's traffic; [Shape]
// sets its argument.
func Bandwidth() Plugin {
	return Plugin{"type": "bandwidth", "capabilities": map[string]bool{"bandwidth": true}}
}

// Tuning returns the reference plugin that sets a pod's net.core.somaxconn.
func Tuning(somaxconn string) Plugin {
	return Plugin{"type": "tuning", "sysctl": map[string]string{"net.core.somaxconn": somaxconn}}
}

// MapPort adds a port mapping to a call's arguments: a port of the node leads to
// one of the pod, over TCP.
func MapPort(args map[string]any, host, pod int) map[string]any {
	args["portMappings"] = []map[string]any{{"hostPort": host, "containerPort": pod, "protocol": "tcp"}}
	return args
}

// Shape adds a limit to a call's arguments: the pod sends and receives at most
// rate bits a second.
func Shape(args map[string]any, rate int) map[string]any {
	args["bandwidth"] = map[string]any{"ingressRate": rate, "ingressBurst": rate / 8, "egressRate": rate, "egressBurst": rate / 8}
	return args
}
