package enroll

import "context"

// TurnAway refuses a request whose CSR a door could not take, for cause. If the
// caller proves who it is, the refusal is in the record, and the error that
// comes back carries the reference; what a stranger sends that is no request is
// left to the door to count. r.CSR is nil.
func (e *Enroller) TurnAway(ctx context.Context, r Request, cause error) error {
	v := &visit{Request: r, at: e.Now()}
	var err error
	if v.profile, err = e.Profile(v.Profile); err != nil {
		return err
	}
	if v.caller, err = e.authenticate(ctx, v); err != nil {
		return cause
	}
	if v.device, v.known, err = e.lookUp(ctx, &v.caller); err != nil {
		return err
	}
	return e.refuse(ctx, v, cause)
}
