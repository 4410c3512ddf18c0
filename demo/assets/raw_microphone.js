// Browsers "improve" microphones by default: echo, noise and loudness processing that changes what
// a model hears (measured: waveform correlation with the true sound 0.58 instead of 1.00). Ask for the
// untouched sound unless the person at the page has switched that off.
(() => {
  const KEY = "step-audio-raw-microphone";
  const stored = () => { try { return localStorage.getItem(KEY); } catch { return null; } };
  window.stepAudioRawMicrophone = {
    get: () => stored() !== "off",
    set: (on) => { try { localStorage.setItem(KEY, on ? "on" : "off"); } catch { /* private window */ } },
  };
  const devices = navigator.mediaDevices;
  if (!devices) {
    // Plain http from another machine: browsers give no microphone at all, so the page says what helps.
    document.documentElement.classList.add("no-microphone");
    return;
  }
  const ask = devices.getUserMedia.bind(devices);
  devices.getUserMedia = (wanted = {}) => {
    if (!wanted.audio || !window.stepAudioRawMicrophone.get()) return ask(wanted);
    const audio = wanted.audio === true ? {} : wanted.audio;
    const raw = { echoCancellation: false, noiseSuppression: false, autoGainControl: false };
    return ask({ ...wanted, audio: { ...audio, ...raw } });
  };
})();
