package lab

// Daemon starts any program of the system inside the node's namespace, such as
// a container runtime. Its output is appended to log.
func (n *Node) Daemon(name, log, program string, args ...string) (*Process, error) {
	return start(n.NS, name, log, append([]string{program}, args...)...)
}
