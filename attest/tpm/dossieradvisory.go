package tpm

import (
	"encoding/hex"
	"errors"
	"fmt"
	"path"
	"strconv"
	"strings"

	"github.com/hallmark-pki/hallmark/attest"
)

// advisories are advisories.json.
type advisories []advisory

// advisory is one warning, and which TPMs it is about. An empty field is about all.
type advisory struct {
	ID           string `json:"id"`
	Manufacturer string `json:"manufacturer"` // as in a certificate (id:49465800), or as text (IFX)
	Model        string `json:"model"`        // as in a certificate; * and ? stand for others
	Firmware     string `json:"firmware"`     // as in ">=7.62 <7.63"
	Action       string `json:"action"`       // warn or deny
	Text         string `json:"text"`
	URL          string `json:"url"`

	firmware []bound
}

func (a *advisories) read(file []byte) error {
	return eachIn(file, func(entry advisory) error {
		if err := entry.check(); err != nil {
			return err
		}
		*a = append(*a, entry)
		return nil
	})
}

// check completes an advisory, or says what is wrong with it.
func (a *advisory) check() (err error) {
	switch {
	case a.ID == "" || a.Text == "":
		return errors.New("an advisory needs an id and a text")
	case a.Action != "warn" && a.Action != "deny":
		return fmt.Errorf("action %q is neither warn nor deny", a.Action)
	}
	if _, err := path.Match(a.Model, ""); err != nil {
		return fmt.Errorf("model %q is not a pattern: %w", a.Model, err)
	}
	if a.Manufacturer != "" {
		if a.Manufacturer, err = vendorID(a.Manufacturer); err != nil {
			return err
		}
	}
	a.firmware, err = parseBounds(a.Firmware)
	return err
}

// vendorID returns a TPM vendor ID as certificates write it, id: and eight hex digits. It
// takes that, or up to four letters, which are filled up with zero bytes (TCG TPM Vendor ID Registry).
func vendorID(s string) (string, error) {
	if digits, found := strings.CutPrefix(strings.ToLower(s), "id:"); found {
		if b, err := hex.DecodeString(digits); err != nil || len(b) != 4 {
			return "", fmt.Errorf("manufacturer %q is not id: and eight hex digits", s)
		}
		return "id:" + strings.ToUpper(digits), nil
	}
	if len(s) > 4 {
		return "", fmt.Errorf("manufacturer %q is longer than four letters", s)
	}
	var b [4]byte
	copy(b[:], s)
	return "id:" + strings.ToUpper(hex.EncodeToString(b[:])), nil
}

// matching returns the advisories about a TPM. One that names a firmware is
// not about a TPM whose firmware is unknown.
func (a advisories) matching(ek attest.EndorsementKey, firmware uint64) []attest.Advisory {
	if firmware == 0 {
		firmware = shippedFirmware(ek.Version)
	}
	manufacturer, err := vendorID(ek.Manufacturer)
	if err != nil {
		manufacturer = ek.Manufacturer
	}
	var found []attest.Advisory
	for i := range a {
		entry := &a[i]
		if entry.Manufacturer != "" && entry.Manufacturer != manufacturer {
			continue
		}
		if matches, _ := path.Match(entry.Model, ek.Model); entry.Model != "" && !matches {
			continue
		}
		if !within(entry.firmware, firmware) {
			continue
		}
		says := entry.Text
		if entry.URL != "" {
			says += " (" + entry.URL + ")"
		}
		found = append(found, attest.Advisory{ID: entry.ID, Action: entry.Action, Says: says})
	}
	return found
}

// shippedFirmware is the firmwareVersion that tpmVersion of an endorsement key
// certificate stands for: id: and the hex digits of major and minor, with 16 bits each or, as Infineon writes
// them, with 8. 0 is unknown.
func shippedFirmware(version string) uint64 {
	digits, found := strings.CutPrefix(version, "id:")
	word, err := strconv.ParseUint(digits, 16, 32)
	switch {
	case !found || err != nil:
		return 0
	case len(digits) == 8:
		return word << 32
	case len(digits) == 4:
		return word>>8<<48 | word&0xff<<32
	}
	return 0
}

// bound is one end of a range of firmware versions, both ends included.
type bound struct{ from, until uint64 }

// parseBounds reads what firmware an advisory is about: words apart by spaces,
// all of which must hold, each one of >=V, >V, <=V, <V and =V. V is up to four numbers as in
// 7.62.3126.0: the 16-bit parts of a TPM's firmwareVersion, the highest first. One that is shorter stands for
// every version that begins with it.
func parseBounds(s string) ([]bound, error) {
	var bounds []bound
	for word := range strings.FieldsSeq(s) {
		version := strings.TrimLeft(word, "<>=")
		first, last, err := versionRange(version)
		if err != nil {
			return nil, fmt.Errorf("firmware %q: %w", word, err)
		}
		const end = ^uint64(0)
		switch word[:len(word)-len(version)] {
		case ">=":
			bounds = append(bounds, bound{first, end})
		case ">":
			if last == end {
				return nil, fmt.Errorf("firmware %q: there is none above", word)
			}
			bounds = append(bounds, bound{last + 1, end})
		case "<=":
			bounds = append(bounds, bound{0, last})
		case "<":
			if first == 0 {
				return nil, fmt.Errorf("firmware %q: there is none below", word)
			}
			bounds = append(bounds, bound{0, first - 1})
		case "=":
			bounds = append(bounds, bound{first, last})
		default:
			return nil, fmt.Errorf("firmware %q: begin with one of >= > <= < =", word)
		}
	}
	return bounds, nil
}

// versionRange returns the first and the last version that begin with v.
func versionRange(v string) (first, last uint64, err error) {
	parts := strings.Split(v, ".")
	if len(parts) > 4 {
		return 0, 0, errors.New("a version has up to four numbers")
	}
	shift := 64
	for _, part := range parts {
		n, err := strconv.ParseUint(part, 10, 16)
		if err != nil {
			return 0, 0, errors.New("a version is up to four numbers below 65536, apart by dots")
		}
		shift -= 16
		first |= n << shift
	}
	return first, first | (1<<shift - 1), nil
}

func within(bounds []bound, firmware uint64) bool {
	for _, b := range bounds {
		if firmware == 0 || firmware < b.from || firmware > b.until {
			return false
		}
	}
	return true
}
