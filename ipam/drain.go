package ipam

// SetDraining sets whether the node is being emptied: then it keeps no block
// ahead, and releases every unused block, the last one too, so that other nodes
// can claim them. New pods are still served.
func (a *Allocator) SetDraining(on bool) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.draining != on {
		a.draining = on
		signal(a.registrar.kick)
	}
}
