// Which pictures a clip is decoded from, and which of them each of its frames (models/lite/plan.py says why).

const CLIP = 16;
const BACKWARD = 1, FORWARD = 2; // flags of a cut

/** Frames of the pictures beside a clip that no cut keeps away, {before, after}, null where there is none; `lost`: lines. */
export function picturesBeside(clips, index) {
  const lost = [];
  const look = (step, flag) => {
    let at = index, cut = false;
    do {
      cut ||= Boolean((clips[step < 0 ? at : at + 1]?.cut ?? 0) & flag);
      at += step;
    } while (clips[at]?.expected === 0);
    if (cut || !clips[at]) return null;
    if (clips[at].lack === null) return clips[at].pictures.at(step < 0 ? -1 : 0);
    lost.push(`clip ${at + 1}: ${clips[at].lack}`);
    return null;
  };
  return { before: look(-1, BACKWARD), after: look(1, FORWARD), lost };
}

/** A model's plan for pictures at `places`, some of them `beside` the clip; `shown` has [frame, picture] of its own ones. */
export function planReferences(places, beside) {
  const all = [...places.keys()], own = all.filter((i) => !beside[i]);
  const nearest = (among, frame) => among.reduce((best, i) => (Math.abs(places[i] - frame) < Math.abs(places[best] - frame) ? i : best));
  const plan = { near: [], between: [], far: [], pair: [], time: [], shown: [] };
  const pairs = [];
  for (let frame = 0; frame < CLIP; frame++) {
    const near = nearest(own.length ? own : all, frame);
    plan.near.push(near);
    if (places[near] === frame && !beside[near]) {
      plan.shown.push([frame, near]);
      continue;
    }
    const side = frame >= places[near] ? 1 : -1;
    const others = all.filter((i) => side * (places[i] - frame) > 0);
    if (!others.length) continue;
    const far = nearest(others, frame);
    let pair = pairs.findIndex(([one, other]) => one === near && other === far);
    if (pair < 0) pair = pairs.push([near, far]) - 1;
    plan.between.push(frame);
    plan.far.push(far);
    plan.pair.push(pair);
    plan.time.push((frame - places[near]) / (places[far] - places[near]));
  }
  return { ...plan, pairs: [pairs.map(([near]) => near), pairs.map(([, far]) => far)] };
}
