package release

import (
	"cmp"
	"slices"
	"time"

	"github.com/hallmark-pki/hallmark/policy"
)

// Class says in what two answers to one question differ.
type Class string

// The classes, the gravest first. A pair of answers is in the first that fits.
const (
	AllowToDeny     Class = "allow_to_deny" // or a hold that became a deny
	DenyToAllow     Class = "deny_to_allow" // or a hold that became an allow
	HoldChanged     Class = "hold"          // what had not to wait now has to
	ReasonChanged   Class = "reason"        // refused or held as before, for another reason
	LifetimeChanged Class = "lifetime"      // allowed as before, for another lifetime, by another profile, or with other obligations
)

// Classes lists every Class, the gravest first.
func Classes() []Class {
	return []Class{AllowToDeny, DenyToAllow, HoldChanged, ReasonChanged, LifetimeChanged}
}

// grade is the class's place among Classes.
func (c Class) grade() int { return slices.Index(Classes(), c) }

// Outcome is an answer, as far as two are compared.
type Outcome struct {
	Verdict  string        `json:"verdict"`
	Code     string        `json:"code,omitempty"`   // of the first reason
	Detail   string        `json:"detail,omitempty"` // of the first reason; not compared
	Profile  string        `json:"profile,omitempty"`
	Lifetime time.Duration `json:"lifetime_ns,omitempty"`
	Duties   []string      `json:"obligations,omitempty"` // types, sorted
}

// outcomeOf is what is compared of an answer.
func outcomeOf(a *policy.Answer) Outcome {
	o := Outcome{Verdict: a.Verdict.String(), Profile: a.Profile, Lifetime: a.Lifetime}
	if len(a.Reasons) > 0 {
		first := slices.MinFunc(a.Reasons, func(a, b policy.Reason) int { return cmp.Compare(a.Code, b.Code) })
		o.Code, o.Detail = first.Code, shorten(first.Detail)
	}
	for _, d := range a.Obligations {
		o.Duties = append(o.Duties, d.Type)
	}
	slices.Sort(o.Duties)
	return o
}

// maxDetail bounds what is kept of a reason's sentence, in bytes.
const maxDetail = 300

func shorten(s string) string {
	if len(s) <= maxDetail {
		return s
	}
	for n := maxDetail; ; n-- {
		if s[n]&0xC0 != 0x80 { // the first byte of a character
			return s[:n] + "…"
		}
	}
}

// compare returns the class of the difference between two outcomes; ok is false where there is none.
func compare(was, is *Outcome) (class Class, ok bool) {
	const allow, hold, deny = "allow", "hold", "deny"
	switch {
	case was.Verdict == is.Verdict && is.Verdict == allow:
		return LifetimeChanged, was.Lifetime != is.Lifetime || was.Profile != is.Profile || !slices.Equal(was.Duties, is.Duties)
	case was.Verdict == is.Verdict:
		return ReasonChanged, was.Code != is.Code || !slices.Equal(was.Duties, is.Duties)
	case is.Verdict == deny:
		return AllowToDeny, true
	case is.Verdict == allow:
		return DenyToAllow, true
	}
	return HoldChanged, true
}

// Difference is one question that the proposed rules answer differently, and
// how many like it there were: same class, action, subject, resource and reason codes.
type Difference struct {
	Class    Class   `json:"class"`
	Action   string  `json:"action"`
	Subject  string  `json:"subject"`            // id of who asked
	Resource string  `json:"resource,omitempty"` // id of what it was about
	Was      Outcome `json:"was"`
	Is       Outcome `json:"is"`
	Decision string  `json:"decision,omitempty"` // id of the newest decision like this, where it stands in the record
	Count    int     `json:"count"`
}
