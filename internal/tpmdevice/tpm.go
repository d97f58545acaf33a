// Package tpmdevice is the device's side of attestation: keys that live in a
// TPM 2.0, and the evidence that they do. It speaks to the TPM directly, without
// cgo and without a daemon, and imports nothing of the server.
//
// No operation leaves anything behind in the TPM: small ones have three slots
// for objects, and whoever forgets one there locks everybody out.
package tpmdevice

import (
	"errors"
	"fmt"
	"slices"

	"github.com/google/go-tpm/tpm2"
	"github.com/google/go-tpm/tpm2/transport"
)

// TPM is a TPM 2.0 by its address. Every operation opens it anew and closes it
// again, so that it is free for others in between. Several goroutines may use one.
type TPM struct{ address string }

// At names a TPM without touching it:
//
//	/dev/tpmrm0          the kernel's resource manager
//	/dev/tpm0            the device itself, which only one process can open
//	swtpm:HOST:PORT      a software TPM over TCP
//	swtpm:/path/socket   a software TPM over a Unix socket
func At(address string) (*TPM, error) {
	if _, err := dialer(address); err != nil {
		return nil, err
	}
	return &TPM{address}, nil
}

// Open is At, and finds out whether there is a TPM 2.0 that answers. Its
// errors, as those of every operation here, say what a technician can do: see the Err variables.
func Open(address string) (*TPM, error) {
	t, err := At(address)
	if err != nil {
		return nil, err
	}
	return t, t.visit((*visit).checkFamily)
}

// Address is what Open and At take.
func (t *TPM) Address() string { return t.address }

// visit is one opening of a TPM.
type visit struct {
	transport.TPMCloser
	loaded []tpm2.TPMHandle // objects and sessions of ours, in the order they came
}

// visit opens the TPM for do, and takes everything out of it that do put there,
// whatever becomes of do.
func (t *TPM) visit(do func(*visit) error) error {
	dial, err := dialer(t.address)
	if err != nil {
		return err
	}
	connection, err := dial()
	if err != nil {
		return t.explain(err)
	}
	v := &visit{TPMCloser: connection}
	defer connection.Close()
	if err := v.sweep(t.address); err != nil {
		return t.explain(err)
	}
	err = do(v)
	if left := v.flush(0); err == nil {
		err = left
	}
	return t.explain(err)
}

// keep notes an object for flush and returns how to name it in commands.
func (v *visit) keep(handle tpm2.TPMHandle, name tpm2.TPM2BName) tpm2.AuthHandle {
	v.loaded = append(v.loaded, handle)
	return tpm2.AuthHandle{Handle: handle, Name: name, Auth: tpm2.PasswordAuth(nil)}
}

// flush takes out the objects that were loaded after the first n.
func (v *visit) flush(n int) error {
	var failed error
	for len(v.loaded) > n {
		last := v.loaded[len(v.loaded)-1]
		v.loaded = v.loaded[:len(v.loaded)-1]
		if _, err := (tpm2.FlushContext{FlushHandle: last}).Execute(v); err != nil {
			failed = errors.Join(failed, fmt.Errorf("taking an object out of the TPM: %w", err))
		}
	}
	return failed
}

// sweep takes out of a software TPM what a process left there that was killed
// in the middle. It serves one connection at a time and has no resource manager, so it cannot be anybody else's.
func (v *visit) sweep(address string) error {
	if !isSoftware(address) {
		return nil
	}
	if err := v.checkFamily(); err != nil {
		return err
	}
	for _, first := range []tpm2.TPMHandle{transientFirst, loadedSessionFirst} {
		left, err := v.handles(first, 16)
		if err != nil {
			return err
		}
		for _, handle := range left {
			if _, err := (tpm2.FlushContext{FlushHandle: handle}).Execute(v); err != nil {
				return err
			}
		}
	}
	return nil
}

// The first handles of each kind (TPM 2.0 Library, Part 2, Section 7.2).
const (
	nvFirst            tpm2.TPMHandle = 0x01000000
	loadedSessionFirst tpm2.TPMHandle = 0x02000000
	transientFirst     tpm2.TPMHandle = 0x80000000
	persistentFirst    tpm2.TPMHandle = 0x81000000
)

// handles lists up to n handles from first on, of first's kind.
func (v *visit) handles(first tpm2.TPMHandle, n uint32) ([]tpm2.TPMHandle, error) {
	answer, err := tpm2.GetCapability{Capability: tpm2.TPMCapHandles, Property: uint32(first), PropertyCount: n}.Execute(v)
	if err != nil {
		return nil, fmt.Errorf("listing what the TPM holds: %w", err)
	}
	list, err := answer.CapabilityData.Data.Handles()
	if err != nil {
		return nil, fmt.Errorf("listing what the TPM holds: %w", err)
	}
	return list.Handle, nil
}

// has reports whether an NV index or a persistent object is there.
func (v *visit) has(handle tpm2.TPMHandle) (bool, error) {
	found, err := v.handles(handle, 1)
	return err == nil && slices.Contains(found, handle), err
}

// checkFamily asks for the version by hand, because a TPM 1.2 answers with a
// tag of its own that is no TPM 2.0 response at all.
func (v *visit) checkFamily() error {
	command := []byte{0x80, 0x01, 0, 0, 0, 22, 0, 0, 0x01, 0x7a, // TPM2_GetCapability
		0, 0, 0, 6, 0, 0, 0x01, 0x00, 0, 0, 0, 1} // TPM_CAP_TPM_PROPERTIES, TPM_PT_FAMILY_INDICATOR, one
	answer, err := v.Send(command)
	if err != nil {
		return err
	}
	if len(answer) < 10 || answer[0] != 0x80 { // TPM 1.2 answers with TPM_TAG_RSP_COMMAND, 00 C4
		return ErrNotTPM2
	}
	family, err := v.property(tpm2.TPMPTFamilyIndicator)
	if err != nil {
		return err
	}
	if family>>8 != 0x322e30 { // "2.0"
		return ErrNotTPM2
	}
	return nil
}

// property is one TPM_PT value.
func (v *visit) property(p tpm2.TPMPT) (uint32, error) {
	answer, err := tpm2.GetCapability{Capability: tpm2.TPMCapTPMProperties, Property: uint32(p), PropertyCount: 1}.Execute(v)
	if err != nil {
		return 0, fmt.Errorf("asking what the TPM is: %w", err)
	}
	list, err := answer.CapabilityData.Data.TPMProperties()
	if err != nil || len(list.TPMProperty) == 0 || list.TPMProperty[0].Property != p {
		return 0, fmt.Errorf("the TPM does not tell its property %x", uint32(p))
	}
	return list.TPMProperty[0].Value, nil
}
