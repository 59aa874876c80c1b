package ipam

// SetDraining says whether the node is being emptied: then it keeps no block
// ahead, and gives back every block that nobody uses, the last one too, so
// that other nodes can have them. Pods that come all the same are served.
func (a *Allocator) SetDraining(on bool) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.draining != on {
		a.draining = on
		signal(a.registrar.kick)
	}
}
