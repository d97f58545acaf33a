package tpmdevice

import (
	"errors"
	"fmt"
	"io/fs"
	"syscall"

	"github.com/google/go-tpm/tpm2"
)

// What can be wrong with a TPM, or with what is asked of it.
var (
	ErrAbsent          = errors.New("there is no TPM there")
	ErrNotTPM2         = errors.New("this is not a TPM 2.0")
	ErrBusy            = errors.New("another process has the TPM open; use the kernel's resource manager, /dev/tpmrm0")
	ErrFull            = errors.New("the TPM has no room for another object; use the kernel's resource manager, /dev/tpmrm0, or end what holds keys in it")
	ErrLockedOut       = errors.New("the TPM is locked out after too many wrong passwords; that passes with time, or its administrator resets it (tpm2_dictionarylockout --clear-lockout)")
	ErrPassword        = errors.New("the TPM asks for a password")
	ErrNotStarted      = errors.New("the TPM has not been started (TPM2_Startup); firmware does that, or swtpm with --flags startup-clear")
	ErrBroken          = errors.New("the TPM is in failure mode; only a power cycle can help")
	ErrUnable          = errors.New("this TPM does not make such keys")
	ErrForeignKey      = errors.New("the key was made in another TPM, or this one has been cleared since")
	ErrNoEKCertificate = errors.New("the TPM holds no endorsement key certificate; its maker may offer it for download, or the operator registers the key itself (ek_sha256)")
)

// explain puts a TPM's answer in words that a technician can act on.
func (t *TPM) explain(err error) error {
	if err == nil {
		return nil
	}
	err = explainCode(err)
	switch {
	case errors.Is(err, fs.ErrPermission):
		return fmt.Errorf("no permission to open %s: run as root, or as a user of the group that owns it (tss): %w", t.address, err)
	case errors.Is(err, fs.ErrNotExist), errors.Is(err, syscall.ENODEV), errors.Is(err, syscall.ECONNREFUSED):
		return fmt.Errorf("%s: %w: %w", t.address, ErrAbsent, err)
	case errors.Is(err, syscall.EBUSY):
		return fmt.Errorf("%s: %w", t.address, ErrBusy)
	}
	return fmt.Errorf("TPM %s: %w", t.address, err)
}

// explainCode does so for response codes (TPM 2.0 Library, Part 2, Section 6.6).
func explainCode(err error) error {
	for _, known := range []struct {
		code  tpm2.TPMRC
		means error
	}{
		{tpm2.TPMRCLockout, ErrLockedOut},
		{tpm2.TPMRCBadAuth, ErrPassword},
		{tpm2.TPMRCAuthFail, ErrPassword},
		{tpm2.TPMRCInitialize, ErrNotStarted},
		{tpm2.TPMRCFailure, ErrBroken},
		{tpm2.TPMRCObjectMemory, ErrFull},
		{tpm2.TPMRCObjectHandles, ErrFull},
		{tpm2.TPMRCSessionMemory, ErrFull},
		{tpm2.TPMRCSessionHandles, ErrFull},
	} {
		if errors.Is(err, known.code) && !errors.Is(err, known.means) {
			return fmt.Errorf("%w (%w)", known.means, err)
		}
	}
	return err
}

// hierarchy names the hierarchy that a password is missing for.
func hierarchy(name string, err error) error {
	if errors.Is(err, tpm2.TPMRCBadAuth) || errors.Is(err, tpm2.TPMRCAuthFail) {
		return fmt.Errorf("%w: its %s hierarchy has one set, and this agent works with none (tpm2_changeauth removes it)", ErrPassword, name)
	}
	if errors.Is(err, tpm2.TPMRCHierarchy) {
		return fmt.Errorf("the TPM's %s hierarchy is switched off (in the firmware's setup): %w", name, err)
	}
	return err
}
