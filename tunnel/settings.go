package tunnel

import (
	"math"
	"net/netip"

	"onlink/internal/strictyaml"
)

// Settings are the section `tunnel` of onlinkd.yaml: what all devices share.
type Settings struct {
	MTU   int   // bytes; 0 (auto): the underlay's MTU less the tunnel's header
	Guard Guard // whether tunnelled packets are accepted from known nodes only (package nft)
	VXLAN VXLANSettings
}

// VXLANSettings are what the pools with tunnel vxlan share; they must be the
// same on all nodes (RFC 7348).
type VXLANSettings struct {
	VNI  uint32 // network identifier, 24 bits
	Port uint16 // UDP port
}

// Guard says how much the guard is wanted.
type Guard string

// The values of Guard.
const (
	GuardOff      Guard = "off"      // never
	GuardAuto     Guard = "auto"     // where the kernel has nftables; its lack is reported
	GuardRequired Guard = "required" // the agent does not start without it
)

// Bounds of the MTU that a file may ask for: RFC 791 section 3.2 wants 576
// bytes everywhere.
const askedMTU, maxMTU = 576, math.MaxUint16

// DefaultSettings are those of a file without the section.
func DefaultSettings() Settings {
	return Settings{Guard: GuardAuto, VXLAN: VXLANSettings{VNI: 4096, Port: 4789}}
}

// Read reads the section; keys that it does not have stay.
func (s *Settings) Read(v strictyaml.Value) {
	v.Mapping(strictyaml.Fields{
		"mtu": func(v strictyaml.Value) {
			if text, ok := v.Text("auto or a number"); ok && text != "auto" {
				strictyaml.Number(&s.MTU, askedMTU, maxMTU)(v)
			}
		},
		"guard": strictyaml.OneOf(&s.Guard, GuardOff, GuardAuto, GuardRequired),
		"vxlan": func(v strictyaml.Value) {
			v.Mapping(strictyaml.Fields{
				"vni":  strictyaml.Number(&s.VXLAN.VNI, 1, maxVNI),
				"port": strictyaml.Number(&s.VXLAN.Port, 1, math.MaxUint16),
			})
		},
	})
}

// Device returns the device of a kind that the settings ask for. Its UnderlayMTU
// is not known yet.
func (s Settings) Device(name string, kind Kind, local netip.Addr) Desired {
	return Desired{Name: name, Kind: kind, Local: local, MTU: s.MTU, VNI: s.VXLAN.VNI, Port: s.VXLAN.Port}
}
