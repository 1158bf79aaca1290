export const drawChart = () => undefined;
